"""The score, and the bars of the whole check (tests/measure_grounding.py, reported half)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from featherdesk.agent.evidence import Evidence
from featherdesk.agent.grounding import DOUBTFUL, StreamGuard, missing
from featherdesk.agent.support import CUTS, REPLY, Layer, load_support, stepped
from hypothesis import given, settings
from hypothesis import strategies as st

SOURCES = [
    "Standard delivery to mainland UK costs £4.95. It is free for orders of £60 or more.\n"
    "How much does delivery cost?",
    "Gift cards are sold from £10 to £500.\nDo you sell gift cards?",
]
ASKED = "What do you charge for delivery?"


def _measure() -> ModuleType:
    path = Path(__file__).parents[1] / "measure_grounding.py"
    spec = importlib.util.spec_from_file_location("measure_grounding", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_grounding"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[int, int]]:
    measure = _measure()
    rates: dict[str, tuple[int, int]] = measure.rates(measure.items("report"))
    return rates


def test_wrong_answers_made_by_code_are_caught(told: dict[str, tuple[int, int]]) -> None:
    of, caught = told["all corrupted"]
    assert of >= 1000
    assert sum(name.endswith(("changed", "removed", "turned")) for name in told) >= 7
    assert caught / of >= 0.95


def test_wrong_answers_of_real_models_are_caught(told: dict[str, tuple[int, int]]) -> None:
    of, caught = told["all model"]
    assert of >= 300
    assert caught / of >= 0.80


def test_right_answers_in_other_words_pass(told: dict[str, tuple[int, int]]) -> None:
    of, rejected = told["all right"]
    assert of >= 200
    assert rejected / of <= 0.05


@pytest.mark.parametrize(
    "reply",
    [
        "Standard delivery to mainland UK costs £4.95.",
        "It costs £4.95, and orders of £60 or more are free.",
        "Delivery to mainland UK is £4.95. Hope that helps!",
    ],
)
def test_a_right_reply_is_not_doubted(reply: str) -> None:
    assert not load_support().doubts(reply, Evidence.of(SOURCES), ASKED)


@pytest.mark.parametrize(
    "reply",
    [
        "Standard delivery to mainland UK costs £60. It is free for orders of £4.95 or more.",
        "Standard delivery to mainland UK costs £4.95. We collect it from your home as well.",
        "Customer: What do you charge for delivery?",
        "Delivery. Delivery. Delivery. Delivery. Delivery. Delivery. Delivery.",
        "How much does delivery cost?",
        "Standard delivery to mainland",
    ],
)
def test_a_reply_whose_claims_hold_may_still_be_doubted(reply: str) -> None:
    evidence = Evidence.of(SOURCES)
    assert missing(reply, evidence, ASKED) == ()
    assert load_support().doubts(reply, evidence, ASKED)


def test_steps_keep_the_features_and_tell_what_they_pass() -> None:
    found = stepped(np.array([0.0, 0.6]))
    assert found.shape == (2 * (1 + len(CUTS)),)
    assert found[:2].tolist() == [0.0, 0.6]
    assert found[1::2].sum() == pytest.approx(0.6 + sum(cut < 0.6 for cut in CUTS))


def test_a_layer_is_linear_in_its_steps() -> None:
    layer = Layer((0.0,) * (1 + len(CUTS)) + (1.5,), 0.0)
    assert layer.odds(np.array([0.9])) == 1.5


def test_every_feature_is_between_0_and_2_whatever_the_text() -> None:
    evidence = Evidence.of(["", "\n", "?"])
    for reply in ("", "?", "...", "£", "12", "Customer:", "好" * 40, "a" * 5000):
        features = load_support().reply_features(reply, evidence, "")
        assert features.shape == (len(REPLY),)
        assert features.min() >= 0
        assert features.max() <= 2


@given(st.text(max_size=80), st.text(max_size=40))
@settings(max_examples=60)
def test_any_text_is_judged(reply: str, source: str) -> None:
    evidence = Evidence.of([source])
    assert isinstance(load_support().doubts(reply, evidence, source), bool)
    assert isinstance(missing(reply, evidence, source), tuple)


def _stream(reply: str) -> tuple[list[str], StreamGuard]:
    guard = StreamGuard(SOURCES, ASKED, load_support())
    said = [guard.feed(reply[:end]) for end in range(1, len(reply) + 1)]
    return [*said, guard.finish()], guard


def test_a_right_reply_flows_word_by_word() -> None:
    reply = "Standard delivery to mainland UK costs £4.95. It is free for orders of £60 or more."
    said, guard = _stream(reply)
    assert "".join(said) == reply
    assert not guard.failed
    assert len([piece for piece in said if piece]) > 8


def test_a_sentence_with_new_words_is_held_until_it_is_judged() -> None:
    said, guard = _stream("Delivery costs £4.95. We also collect parcels at your home. It is fast.")
    assert "collect" not in "".join(said)
    assert guard.failed == ("We also collect parcels at your home.",)


def test_a_reply_that_does_not_answer_fails_at_its_end() -> None:
    _, guard = _stream("What do you charge for delivery?")
    assert guard.failed == (DOUBTFUL,)


def test_text_the_score_does_not_read_is_left_to_the_exact_rules() -> None:
    guard = StreamGuard(["请在30天内退货，运费不退。"], "怎么退货？", load_support())
    guard.feed("请在30天内退货。")
    guard.finish()
    assert not guard.failed

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.calibration import Calibration, calibrate
from featherdesk.agent.encoder import MiniLM, MultilingualUse, Vectors, WordsOnly
from featherdesk.agent.errors import ArtifactError
from featherdesk.agent.index import Index
from featherdesk.agent.out_of_scope import out_of_scope_questions
from featherdesk.agent.router import Router
from featherdesk.agent.texts import say
from featherdesk.agent.types import Entry, HandoffReason, RouteKind, Turn
from numpy.typing import NDArray


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> MiniLM:
    return MiniLM(encoder_folder, 2)


@pytest.fixture
def router(entries: list[Entry], encoder: MiniLM) -> Router:
    index = Index.build(entries, encoder)
    return Router(index, calibrate(index))


def test_a_reworded_question_finds_its_entry(router: Router) -> None:
    route = router.route("how much time until my package is here?")
    assert route.kind is RouteKind.ANSWER
    assert route.passed[0] == "delivery"
    assert route.confidence >= route.threshold


def test_a_bot_of_words_alone_reads_a_follow_up(entries: list[Entry]) -> None:
    """It has no vectors: nothing may come of their missing length."""
    index = Index.build(entries, WordsOnly())
    asked = Turn("user", "How long does delivery take?"), Turn("assistant", "3 to 5 days.")
    route = Router(index, calibrate(index)).route("and what does it cost?", asked)
    assert route.matches
    assert route.matches[0].entry_id == "delivery"
    assert all(0 <= match.score <= 1 for match in route.matches)


@pytest.mark.parametrize(
    "question",
    [
        "how is the weather in Paris",
        "write me a poem about cats",
        "asdf qwer zxcv",
        "😀😀",
        "...",
        "how do I cancel my Netflix subscription",
        "2+2*7",
    ],
)
def test_what_the_faq_does_not_know_is_not_answered(router: Router, question: str) -> None:
    assert router.route(question).kind in {RouteKind.HANDOFF, RouteKind.CLARIFY}


def test_a_person_asked_for_is_a_hand_off(router: Router) -> None:
    route = router.route("I want to talk to a human")
    assert (route.kind, route.reason) == (RouteKind.HANDOFF, HandoffReason.REQUESTED)


def test_near_the_threshold_is_low_confidence_and_far_is_out_of_scope(router: Router) -> None:
    far = router.route("write me a poem about cats")
    assert (far.kind, far.reason) == (RouteKind.HANDOFF, HandoffReason.OUT_OF_SCOPE)
    above = far.confidence * 1.5
    strict = replace(router.calibration.latin, answer=above, clarify=above)
    near = replace(router, calibration=replace(router.calibration, latin=strict))
    route = near.route("write me a poem about cats")
    assert (route.kind, route.reason) == (RouteKind.HANDOFF, HandoffReason.LOW_CONFIDENCE)


def test_a_yes_to_the_offer_of_a_person_is_a_wish_for_one(router: Router) -> None:
    history = [Turn("user", "Mars?"), Turn("assistant", say("no_answer", "en"))]
    route = router.route("yes", history)
    assert (route.kind, route.reason) == (RouteKind.HANDOFF, HandoffReason.REQUESTED)
    assert router.route("yes").kind is RouteKind.SMALLTALK


def test_a_greeting_is_small_talk(router: Router) -> None:
    route = router.route("Hello!")
    assert route.kind is RouteKind.SMALLTALK
    assert route.reply


def test_two_questions_pass_both_entries(router: Router) -> None:
    route = router.route("How long does delivery take and can I return worn boots?")
    assert set(route.passed[:2]) == {"delivery", "worn"}
    assert route.parts == 2


def test_no_more_entries_pass_than_are_shown_but_one_for_each_part(router: Router) -> None:
    latin = replace(router.calibration.latin, accompany=0.0)
    router = replace(router, calibration=replace(router.calibration, latin=latin))
    asked = "how long does delivery take?"
    passed = router.route(asked).passed
    assert len(passed) > 2
    assert replace(router, shown=2).route(asked).passed == passed[:2]
    both = replace(router, shown=1).route(
        "How long does delivery take and can I return worn boots?"
    )
    assert set(both.passed) == {"delivery", "worn"}


class _Unsure:
    """A reranker that says of every entry but those named that it does not answer."""

    id = "unsure"

    def __init__(self, sure_of: str = "") -> None:
        self.sure_of = sure_of
        self.asked: list[str] = []

    def reads(self, text: str) -> bool:
        return True

    def score(
        self, question: str, entries: Sequence[tuple[str, str]], before: str = ""
    ) -> NDArray[np.float64]:
        self.asked.append(question)
        return np.full(len(entries), 9.0 if self.sure_of and self.sure_of in question else -60.0)


def test_no_part_is_read_behind_those_after_which_there_cannot_be_two(router: Router) -> None:
    asked = "How long does delivery take and can I return worn boots?"
    sure = replace(router.calibration.latin.weights, sure=(1.0, 1.0, 0.0, 0.0))
    latin = replace(router.calibration.latin, weights=sure)
    calibration = replace(router.calibration, latin=latin)

    def read(sure_of: str) -> list[str]:
        reranker = _Unsure(sure_of)
        replace(router, calibration=calibration, reranker=reranker).route(asked)
        return sorted(reranker.asked)

    first, second = "How long does delivery take", "can I return worn boots"
    assert read("") == sorted([asked, first])
    assert read(first) == sorted([asked, first, second])


def test_a_follow_up_uses_the_turn_before(router: Router) -> None:
    history = [Turn("user", "How long does delivery take?"), Turn("assistant", "3 to 5 days.")]
    route = router.route("and what does it cost?", history)
    assert route.matches[0].entry_id == "delivery"


def test_a_verbatim_entry_is_never_the_models_to_write(router: Router) -> None:
    """Neither as the second part of a message, nor beside the entry that answers."""
    asked = "How long does delivery take, and can I return worn boots?"
    free = router.route(asked)
    assert free.kind is RouteKind.ANSWER
    second = free.passed[1]
    entries = tuple(replace(e, verbatim=e.id == second) for e in router.index.entries)
    index = copy(router.index)
    index.entries = entries
    bound = replace(router, index=index).route(asked)
    assert bound.kind is RouteKind.VERBATIM
    assert bound.passed == free.passed[:2]
    index.entries = tuple(replace(e, verbatim=e.id != "delivery") for e in entries)
    alone = replace(router, index=index).route("how long does delivery take?")
    assert alone.passed == ("delivery",)


def test_a_change_of_subject_does_not(router: Router) -> None:
    history = [Turn("user", "Can I return worn boots?"), Turn("assistant", "No.")]
    assert router.route("write me a poem about the sea", history).kind is not RouteKind.ANSWER


def test_an_expired_entry_is_never_matched(entries: list[Entry], encoder: MiniLM) -> None:
    old = Entry("old", "Is there a summer sale?", "Yes, 20 % off.", valid_until=date(2020, 1, 1))
    index = Index.build([*entries, old], encoder)
    route = Router(index, calibrate(index)).route("is there a summer sale?")
    assert "old" not in {match.entry_id for match in route.matches}


def test_a_language_the_model_does_not_write_is_verbatim(
    entries: list[Entry], encoder: MiniLM
) -> None:
    german = Entry("de", "Wie lange dauert die Lieferung?", "3 bis 5 Werktage.", language="de")
    index = Index.build([*entries, german], encoder)
    route = Router(index, calibrate(index)).route("Wie lange dauert die Lieferung?")
    assert route.kind is RouteKind.VERBATIM
    assert route.passed == ("de",)


def test_scripts_are_fitted_apart_in_a_mixed_faq(entries: list[Entry]) -> None:
    chinese = [
        Entry(
            "kuaidi", "多久能送到？", "三到五天。", ("送货要几天", "什么时候到货"), language="zh"
        ),
        Entry("tuihuo", "怎么退货？", "三十天内退回。", ("可以退吗", "退货流程"), language="zh"),
    ]
    index = Index.build([*entries, *chinese], MultilingualUse(2))
    router = Router(index, calibrate(index))
    told = router.calibration
    assert told.of("how long?") == told.latin
    assert told.of("要多久？") == told.other
    assert told.latin.weights != told.other.weights
    route = router.route("几天可以送到")
    assert (route.kind, route.passed) == (RouteKind.VERBATIM, ("kuaidi",))


def test_one_entry_is_enough_to_build_and_refuse(encoder: MiniLM) -> None:
    index = Index.build([Entry("a", "How long does delivery take?", "3 days.")], encoder)
    router = Router(index, calibrate(index))
    assert router.route("how long does delivery take").kind is RouteKind.ANSWER
    assert router.route("who won the world cup in 1998?").kind is not RouteKind.ANSWER


def test_calibration_reads_back_and_damage_is_refused(router: Router, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    router.calibration.save(path)
    assert Calibration.load(path) == router.calibration
    path.write_text('{"weights": 3}')
    with pytest.raises(ArtifactError, match="not a router calibration"):
        Calibration.load(path)


def test_index_reads_back_and_embeds_only_what_is_new(
    entries: list[Entry], encoder: MiniLM, tmp_path: Path
) -> None:
    index = Index.build(entries, encoder)
    index.save(tmp_path)
    again = Index.load(tmp_path, encoder)
    assert again.entries == index.entries
    assert np.array_equal(again.vectors, index.vectors)

    class Counting:
        id, dimensions = encoder.id, encoder.dimensions
        seen: tuple[str, ...] = ()

        def embed(self, texts: Sequence[str]) -> Vectors:
            self.seen = tuple(texts)
            return encoder.embed(texts)

        def is_word(self, word: str) -> bool:
            return encoder.is_word(word)

    counting = Counting()
    changed = [
        Entry("delivery", entries[0].question, "It takes 9 days.", entries[0].variants),
        *entries[1:],
    ]
    Index.build(changed, counting, again.known_vectors())
    assert counting.seen == ("How long does delivery take? It takes 9 days.",)


def test_a_damaged_index_is_refused(tmp_path: Path, encoder: MiniLM) -> None:
    with pytest.raises(ArtifactError, match="not a search index"):
        Index.load(tmp_path, encoder)


def test_at_least_300_out_of_scope_questions_ship() -> None:
    questions = [question for question, _ in out_of_scope_questions()]
    assert len(set(questions)) >= 300


def test_small_talk_that_the_faq_answers_is_the_faqs(entries: list[Entry], encoder: MiniLM) -> None:
    own = Entry("hello", "Hello!", "Welcome to the shop.", ("good morning",))
    index = Index.build([*entries, own], encoder)
    router = Router(index, calibrate(index))
    assert router.route("hello").matches[0].entry_id == "hello"
    assert router.route("thank you").kind is RouteKind.SMALLTALK
    assert router.route("I want to talk to a human").reason is HandoffReason.REQUESTED

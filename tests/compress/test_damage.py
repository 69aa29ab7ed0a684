import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.agent.types import Entry
from featherdesk.compress.answers import Answer, Asked
from featherdesk.compress.architecture import layers_of, open_model
from featherdesk.compress.damage import (
    GROUPS,
    choose_finer,
    damage_map,
    finer_layers,
    layer_sweep,
)
from featherdesk.compress.dataset import Question, Row
from featherdesk.compress.forward import Batch, batch_of
from featherdesk.compress.gate import Judgement
from featherdesk.compress.material import Material, batches, encoded
from featherdesk.compress.model import load_tokenizer
from featherdesk.compress.noninferiority import Verdict
from featherdesk.compress.outcomes import Outcome
from featherdesk.compress.proof import _damage, _judged_damage
from featherdesk.compress.recipe import Margins
from featherdesk.compress.rounding import rounded
from featherdesk.compress.steps import Task

ROWS = tuple(
    Row(
        (Entry(f"e{n}", f"What is fee {n}?", f"Fee {n} is £{n}."),),
        (Question(f"fee {n}?", f"Fee {n} is £{n}."),),
        f"e{n}",
        "test",
    )
    for n in range(12)
)


def _outcome(identity: str, **told: object) -> Outcome:
    usual = Outcome(
        identity,
        identity,
        "paraphrase",
        f"entry-{identity[0]}",
        "returns",
        "en",
        out_of_scope=False,
        route="answer",
        first=True,
        refusal=True,
        sent=True,
        raw=True,
        wrote=True,
        fallback=False,
    )
    return replace(usual, **told)  # type: ignore[arg-type]


PARENT = [
    _outcome("a1"),
    _outcome("a2"),
    _outcome("b1", kind="typos", category="delivery"),
    _outcome("b2", kind="typos", category="delivery"),
    _outcome("c1", raw=False),
    _outcome("d1", language="zh", wrote=False),
]


def _without(*ids: str, flag: str = "raw") -> list[Outcome]:
    return [replace(o, **{flag: False}) if o.id in ids else o for o in PARENT]


def test_the_report_tells_what_the_gate_saw_break_by_entry() -> None:
    pairs = tuple(zip(PARENT, _without("b1", "b2"), strict=True))
    told = _judged_damage(Judgement(Verdict.PASSED, (), Margins(), "parent", pairs=pairs))
    assert sorted(told) == [f"gate by {name}" for name in sorted(GROUPS)]
    assert told["gate by entry"] == {"entry-b": {"result": 100.0}, "entry-a": {"result": 0.0}}


def test_the_map_tells_which_entry_broke_at_which_step() -> None:
    found = damage_map(PARENT, {"layers": _without("a1"), "heal": _without("a1", "b1", "b2")})
    rows = {(row.group, row.name): row for row in found.rows}
    assert found.steps == ("layers", "heal")
    assert rows["entry", "entry-a"].lost == {"layers": 0.5, "heal": 0.5}
    assert rows["entry", "entry-b"].lost == {"layers": 0.0, "heal": 1.0}
    assert rows["kind", "typos"].lost == {"layers": 0.0, "heal": 1.0}
    assert rows["category", "returns"].questions == 2
    assert [row.name for row in found.of("entry")] == ["entry-b", "entry-a"]


def test_raw_counts_only_what_the_parent_wrote_and_had_right() -> None:
    found = damage_map(PARENT, {"int4": PARENT})
    assert {row.name for row in found.of("language")} == {"en"}
    assert sum(row.questions for row in found.of("entry")) == 4
    sent = damage_map(PARENT, {"int4": _without("d1", flag="sent")}, "sent")
    assert {row.name: row.lost["int4"] for row in sent.of("language")} == {"en": 0.0, "zh": 1.0}


def test_a_question_that_a_step_was_not_asked_does_not_count_for_it() -> None:
    found = damage_map(PARENT, {"quick": _without("a1")[:1], "whole": PARENT})
    rows = {row.name: row for row in found.of("entry")}
    assert rows["entry-a"].lost == {"quick": 1.0, "whole": 0.0}
    assert rows["entry-b"].lost == {"whole": 0.0}


def test_the_map_is_numbers_and_names() -> None:
    told = json.loads(json.dumps(damage_map(PARENT, {"int4": PARENT}).to_json()))
    assert told["steps"] == ["int4"]
    assert set(told["rows"][0]) == {"group", "name", "questions", "lost"}


def test_an_unknown_measure_is_said() -> None:
    with pytest.raises(ConfigError, match="must be raw, sent"):
        damage_map(PARENT, {}, "speed")


def test_a_step_tells_what_it_broke_by_entry_kind_language_and_category() -> None:
    shown = (
        Entry("a", "?", "It costs £1.", category="fees"),
        Entry("b", "?", "Es kostet.", language="de"),
    )
    asked = [
        Asked(name, Row(shown, (one,), name, "bot"), one)
        for name in ("a", "b")
        for one in [Question("how much?", f"It costs £1, {name}.")]
    ]
    right = [Answer(one, one.question.target) for one in asked]
    wrong = [right[0], Answer(asked[1], "Nothing at all.")]
    found = _damage(right, {"layers": right, "export": wrong})
    assert found["held answers by entry"]["b"] == {"layers": 0.0, "export": 100.0}
    assert found["held answers by language"] == {
        "en": {"layers": 0.0, "export": 0.0},
        "de": {"layers": 0.0, "export": 100.0},
    }
    assert found["held answers by category"] == {"fees": {"layers": 0.0, "export": 0.0}}
    assert found["held answers by kind"]["question"] == {"layers": 0.0, "export": 50.0}


def _probes(tiny: Path) -> list[Batch]:
    sequences = encoded(ROWS, (), load_tokenizer(tiny), 512)
    return [batch_of(group) for group in islice(batches(sequences, 4, 7, 512), 2)]


def test_the_sweep_finds_the_layer_whose_rounding_hurts_and_leaves_the_model_alone(
    tiny: Path,
) -> None:
    import torch

    model = open_model(tiny)
    probes = _probes(tiny)
    for layer in layers_of(model):  # so that a layer weighs in the answers
        layer.self_attn.o_proj.weight.data *= 20  # type: ignore[union-attr,operator]
        layer.mlp.down_proj.weight.data *= 20  # type: ignore[union-attr,operator]
    for module in layers_of(model)[0].modules():  # what int4 can hold is not hurt by it
        if isinstance(module, torch.nn.Linear):
            module.weight.data = rounded(module.weight.data, 32, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = layer_sweep(model, probes, progress=False)
    assert len(scores) == 2
    assert scores[1] > 20 * scores[0] >= 0
    spared = layer_sweep(model, probes, spared=True, progress=False)
    assert spared[1] > spared[0]
    assert layer_sweep(model, probes, bits=8, progress=False)[1] < scores[1] / 5
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_most_sensitive_layers_are_chosen_by_count_or_budget() -> None:
    scores = [0.1, 0.5, 0.0, 0.3]
    assert choose_finer(scores, count=2) == (1, 3)
    assert choose_finer(scores, count=4) == (0, 1, 3)  # layer 2 takes no harm
    assert choose_finer(scores, budget_mb=4.5, layer_mb=1.5) == (0, 1, 3)
    assert choose_finer(scores, budget_mb=1.4, layer_mb=1.5) == ()
    assert choose_finer(scores) == ()
    with pytest.raises(ConfigError, match="what a layer costs"):
        choose_finer(scores, budget_mb=4)
    with pytest.raises(ConfigError, match="below 0"):
        choose_finer(scores, count=-1)


def test_finer_layers_are_measured_on_the_tasks_material(tiny: Path, tmp_path: Path) -> None:
    task = Task(tiny, Material((), (), ("Fee 3 is £4.95. " * 4,)), tmp_path, progress=False)
    (chosen,), sweep = finer_layers(tiny, task, 1)
    assert sweep[chosen] == max(sweep)
    assert finer_layers(tiny, task, 0) == ((), [])
    assert finer_layers(tiny, task, 2) == ((0, 1), sweep)
    with pytest.raises(ConfigError, match="3 of 2 layers"):
        finer_layers(tiny, task, 3)
    with pytest.raises(FeatherdeskError, match="no calibration data"):
        finer_layers(tiny, replace(task, material=Material((), ())), 1)

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.agent.types import Entry
from featherdesk.compress import distill as module
from featherdesk.compress.architecture import open_model, shape_of
from featherdesk.compress.dataset import Question, Row
from featherdesk.compress.distill import Heal
from featherdesk.compress.forward import batch_of, hidden
from featherdesk.compress.heads import PruneHeads
from featherdesk.compress.layers import RemoveLayers
from featherdesk.compress.lessons import lessons_of
from featherdesk.compress.material import LENGTH, Material, batches, encoded
from featherdesk.compress.model import load_tokenizer
from featherdesk.compress.sharing import ShareWeights, tie
from featherdesk.compress.sparsity import Sparsify, zeros_of
from featherdesk.compress.steps import Task
from safetensors.torch import load_file


def _heal(**changes: object) -> Heal:
    told: dict[str, object] = {
        "tokens": 12 * 2 * LENGTH,
        "batch": 2,
        "accumulate": 1,
        "learning_rate": 3e-3,
        "compiled": False,
        "written": 0.0,  # what a model of chance weights does not say
    }
    return Heal(**{**told, **changes})  # type: ignore[arg-type]


@pytest.fixture
def pruned(lively: Path, tmp_path: Path) -> tuple[Path, Task]:
    from .conftest import task_of

    task = task_of(lively, tmp_path, 96)
    PruneHeads(1, compensate=False).run(lively, tmp_path / "pruned", task)
    return tmp_path / "pruned", task


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_student_comes_closer_to_its_parent(
    pruned: tuple[Path, Task], tmp_path: Path, method: str
) -> None:
    source, task = pruned
    told = _heal(method=method, rank=4).run(source, tmp_path / "out", task)
    assert told["after"]["divergence"] < 0.8 * told["before"]["divergence"]
    assert told["steps"] == 12
    assert shape_of(tmp_path / "out") == shape_of(source)
    assert (tmp_path / "out" / "tokenizer.json").exists()
    assert not (task.scratch / "heal").exists()
    assert not any("lora" in name for name in load_file(tmp_path / "out" / "model.safetensors"))


def test_general_text_among_the_lessons_keeps_it_from_being_forgotten(
    lively: Path, tmp_path: Path
) -> None:
    """A model that knows general text unlearns it over shop answers alone; with a share of it
    among its lessons it does not."""
    from .conftest import task_of

    task = task_of(lively, tmp_path)

    def taught(source: Path, share: float) -> dict[str, dict[str, float]]:
        heal = _heal(
            general=share, answers=0.0, states=0.0, doubt=0.0, written=1.0, tokens=8 * 2 * LENGTH
        )
        return dict(heal.run(source, tmp_path / f"{share}", replace(task, parent=source)))

    knows = taught(lively, 0.8)["after"]["perplexity"]
    assert knows < 150  # of 320 tokens
    told = [taught(tmp_path / "0.8", share) for share in (0.0, 0.5)]
    for one in told:
        assert one["before"]["perplexity"] == pytest.approx(knows, rel=0.01)
        assert one["after"]["perplexity_parent"] == pytest.approx(knows, rel=0.01)
    forgot, kept = (one["after"]["perplexity"] for one in told)
    assert forgot > 1.2 * knows
    assert kept < knows


def test_what_was_forgotten_is_the_perplexity_of_text_that_was_held(
    lively: Path, tmp_path: Path
) -> None:
    from .conftest import task_of

    task = task_of(lively, tmp_path)
    told = _heal(tokens=1).run(lively, tmp_path / "out", task)
    lessons = lessons_of(task.material, load_tokenizer(lively), task.seed, 48)
    groups = list(batches(lessons.known, 2, 0))[: module._HELD]
    model, nats = open_model(tmp_path / "out"), []
    for group in groups:
        batch = batch_of(group, LENGTH)
        with torch.no_grad():
            logits = model(
                input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.bias
            ).logits.flatten(0, 1)
        labels = batch.labels.flatten()
        nats.append(torch.nn.functional.cross_entropy(logits[:-1], labels[1:]))
    assert len(nats) == module._HELD
    wanted = float(torch.stack(nats).mean().exp())
    assert told["after"]["perplexity"] == pytest.approx(wanted, rel=0.02)  # bf16 or fp32


@torch.no_grad()
def _apart(student: Path, parent: Path, task: Task) -> float:
    """How far the last hidden states of two models lie apart on held rows, of their length."""
    models = [open_model(student), open_model(parent)]
    sequences = encoded(task.material.held, (), load_tokenizer(parent))
    batch = batch_of(sequences)
    told, wanted = (hidden(model, batch)[batch.real] for model in models)
    return float((told - wanted).norm() / wanted.norm())


def test_hidden_states_alone_bring_the_student_closer(
    pruned: tuple[Path, Task], tmp_path: Path
) -> None:
    source, task = pruned
    nothing = {"answers": 0.0, "doubt": 0.0, "written": 0.0}
    _heal(states=1.0, **nothing).run(source, tmp_path / "states", task)
    _heal(states=0.0).run(source, tmp_path / "answers", task)
    before = _apart(source, task.parent, task)
    after = _apart(tmp_path / "states", task.parent, task)
    assert after < 0.75 * before
    assert after < 0.9 * _apart(tmp_path / "answers", task.parent, task)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_general_text_has_its_share_of_the_lessons(
    lively: Path, tmp_path: Path, share: float
) -> None:
    from .conftest import task_of

    task = task_of(lively, tmp_path)
    run = module._Run(lively, _heal(general=share, batch=1), task, torch.device("cpu"))
    read = [batch.ids[0].numpy().tobytes() for batch, _ in islice(run._lessons(), 120)]
    rows, texts = (
        [sum(one.ids.tobytes() in batch for batch in read) for one in sequences]
        for sequences in (run.rows, run.texts)
    )
    assert min(rows) >= 2  # several rounds over all rows
    assert sum(texts) / (sum(rows) + sum(texts)) == pytest.approx(share, abs=0.05)
    if share:  # other passages in every round
        assert sum(map(bool, texts)) > len(run.rows) * share / (1 - share)


def test_a_smaller_vocabulary_learns_from_the_same_parent(lively: Path, tmp_path: Path) -> None:
    from featherdesk.compress.vocabulary import TrimVocabulary

    from .conftest import task_of

    task = task_of(lively, tmp_path)
    TrimVocabulary(259).run(lively, tmp_path / "v", task)
    RemoveLayers(1).run(tmp_path / "v", tmp_path / "l", task)
    told = _heal().run(tmp_path / "l", tmp_path / "out", task)
    assert told["after"]["divergence"] < told["before"]["divergence"]


def test_an_interrupted_healing_goes_on_and_ends_the_same(
    pruned: tuple[Path, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, task = pruned
    monkeypatch.setattr(module, "_SAVE_EVERY", 4)
    whole = _heal().run(source, tmp_path / "whole", replace(task, scratch=tmp_path / "w"))
    keep = module._Run._optimize

    class Killed(Exception):
        pass

    def kill(self: module._Run, batches: object) -> float:
        if self.step == 6:
            raise Killed
        return keep(self, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(module._Run, "_optimize", kill)
    with pytest.raises(Killed):
        _heal().run(source, tmp_path / "cut", task)
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(module._Run, "_optimize", keep)
    said: list[str] = []
    again = _heal().run(source, tmp_path / "cut", replace(task, notify=said.append))
    assert said[0] == "heal: going on from step 4"
    assert again["tokens"] == whole["tokens"]
    wanted = load_file(tmp_path / "whole" / "model.safetensors")
    got = load_file(tmp_path / "cut" / "model.safetensors")
    for name, weight in wanted.items():
        assert torch.equal(got[name], weight), name


def test_a_checkpoint_of_another_model_or_settings_is_not_taken(
    pruned: tuple[Path, Task], lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, task = pruned
    monkeypatch.setattr(module, "_SAVE_EVERY", 2)
    monkeypatch.setattr(module._Run, "forget", lambda self: None)
    _heal(tokens=4 * 2 * LENGTH).run(source, tmp_path / "a", task)
    assert (task.scratch / "heal" / "checkpoint.safetensors").exists()
    said: list[str] = []
    heard = replace(task, notify=said.append)
    RemoveLayers(1).run(lively, tmp_path / "other", task)
    _heal(tokens=4 * 2 * LENGTH).run(tmp_path / "other", tmp_path / "b", heard)
    _heal(tokens=4 * 2 * LENGTH, learning_rate=1e-3).run(tmp_path / "other", tmp_path / "c", heard)
    retrained = replace(heard, parent=tmp_path / "b")
    _heal(tokens=4 * 2 * LENGTH, learning_rate=1e-3).run(
        tmp_path / "other", tmp_path / "d", retrained
    )
    assert not any("going on" in text for text in said)


def test_a_sparse_model_keeps_its_zeros(lively: Path, tmp_path: Path) -> None:
    from .conftest import task_of

    task = task_of(lively, tmp_path)
    Sparsify(0.6).run(lively, tmp_path / "s", task)
    told = _heal(tokens=6 * 2 * LENGTH, bits=4).run(tmp_path / "s", tmp_path / "out", task)
    assert told["after"]["divergence"] < told["before"]["divergence"]
    before, after = zeros_of(open_model(tmp_path / "s")), zeros_of(open_model(tmp_path / "out"))
    assert len(before) == len(after) == 28
    for (old, zero), (new, still) in zip(before, after, strict=True):
        assert still[zero].all()
        assert not torch.equal(old, new)
    with pytest.raises(ConfigError, match="would fill the zeros"):
        _heal(method="lora").run(tmp_path / "s", tmp_path / "lora", task)


def test_layers_that_share_weights_still_do(lively: Path, tmp_path: Path) -> None:
    from .conftest import task_of

    task = task_of(lively, tmp_path)
    ShareWeights(which=(0,)).run(lively, tmp_path / "s", task)
    told = _heal(tokens=6 * 2 * LENGTH).run(tmp_path / "s", tmp_path / "out", task)
    assert told["after"]["divergence"] < told["before"]["divergence"]
    assert len(tie(open_model(tmp_path / "out"))) == 3


def test_without_a_compiler_it_heals_uncompiled(
    lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .conftest import task_of

    monkeypatch.setenv("CXX", "no-such-compiler")
    said: list[str] = []
    task = replace(task_of(lively, tmp_path), notify=said.append)
    told = _heal(tokens=1, compiled=True).run(lively, tmp_path / "out", task)
    assert told["steps"] == 1
    assert sum("no C++ compiler" in text for text in said) == 1


def test_a_faq_that_fills_no_batch_is_learned_all_the_same(lively: Path, tmp_path: Path) -> None:
    from .conftest import task_of

    task = task_of(lively, tmp_path, 2)
    told = _heal(tokens=1, batch=8).run(lively, tmp_path / "out", task)
    assert told["steps"] == 1


def test_nothing_to_learn_from_is_said(lively: Path, tmp_path: Path) -> None:
    task = Task(lively, Material((), ()), tmp_path, progress=False)
    with pytest.raises(FeatherdeskError, match="no calibration data"):
        _heal().run(lively, tmp_path / "out", task)


@pytest.mark.parametrize("fits", [0, 1])
def test_rows_that_are_all_too_long_end_it_at_once(lively: Path, tmp_path: Path, fits: int) -> None:
    from .conftest import task_of

    short = task_of(lively, tmp_path, 8).material.held[:fits]
    asked = Question("when?", "9.")
    long = Row((Entry("a", "q", "a " * LENGTH),), (asked,), "long", "t")
    task = Task(lively, Material((long,), short), tmp_path, progress=False)
    with pytest.raises(FeatherdeskError, match=f"no row has at most {LENGTH} tokens"):
        _heal().run(lively, tmp_path / "out", task)


def test_a_loss_that_is_not_finite_ends_the_run(
    pruned: tuple[Path, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, task = pruned
    monkeypatch.setattr(module._Run, "_loss", lambda self, *_: self.weights[0].sum() * float("nan"))
    with pytest.raises(FeatherdeskError, match="not finite at step 0; lower learning_rate"):
        _heal().run(source, tmp_path / "out", task)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "half"}, "method must be"),
        ({"bits": 3}, "bits must be"),
        ({"bits": 4, "method": "lora"}, "bits rounds the weights that learn"),
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"learning_rate": 2.0}, "learning_rate must be"),
        ({"general": 1.0}, "general is a share"),
        ({"bits": 4, "block_size": 0}, "block_size must be one of 16, 32, 64, 128, not 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _heal(**settings)


@pytest.mark.parametrize("block", [True, False])
def test_a_model_that_reads_entries_one_by_one_learns_what_all_in_view_tell(
    lively: Path, tmp_path: Path, *, block: bool
) -> None:
    from .conftest import task_of

    task = task_of(lively, tmp_path, 96)
    pair = (Entry("a", "when", "at nine"), Entry("b", "where", "in town"))
    rows, held = (
        tuple(replace(row, entries=pair, block=block, questions=row.questions[:1]) for row in given)
        for given in (task.material.rows, task.material.held)
    )
    told = _heal(tokens=24 * 2 * LENGTH).run(
        lively, tmp_path / "out", replace(task, material=Material(rows, held))
    )
    if block:
        assert told["after"]["divergence"] < 0.9 * told["before"]["divergence"]
    else:
        assert told["before"]["divergence"] < 1e-4

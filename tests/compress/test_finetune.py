import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.agent.types import Entry
from featherdesk.compress import commands
from featherdesk.compress.dataset import Question, Row, save
from featherdesk.compress.finetune import finetune
from featherdesk.compress.methods import Method, TrainingConfig
from featherdesk.compress.model import merge
from featherdesk.compress.training_log import Logs


def _rows(count: int) -> list[Row]:
    return [
        Row(
            (Entry("a", f"q{n}", f"a{n}"),),
            (Question(f"ask {n}", f"a{n}"),),
            str(n),
            "t",
            n % 2 == 0,
        )
        for n in range(count)
    ]


def _config(**changes: object) -> TrainingConfig:
    told: dict[str, object] = {
        "rank": 4,
        "alpha": 8,
        "max_steps": 6,
        "evaluate_every": 3,
        "length": 256,
        "learning_rate": 5e-3,
    }
    return TrainingConfig(**{**told, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", list(Method))
def test_training_lowers_the_validation_loss_and_merges(
    tiny: Path, tmp_path: Path, method: Method
) -> None:
    rows = _rows(24)
    result = finetune(
        tiny,
        rows[:20],
        rows[20:],
        tmp_path / "a",
        _config(method=method, max_steps=12),
        progress=False,
    )
    assert result.validation_loss < result.first_validation_loss
    assert result.answer_tokens < result.tokens
    assert merge(tiny, tmp_path / "a", tmp_path / "merged") < 1e-2
    assert (tmp_path / "merged" / "tokenizer.json").exists()
    assert list((tmp_path / "a" / "logs").iterdir())


def test_an_interrupted_run_goes_on_and_ends_the_same(tiny: Path, tmp_path: Path) -> None:
    rows = _rows(24)
    whole = finetune(tiny, rows[:20], rows[20:], tmp_path / "whole", _config(), progress=False)
    seen: list[int] = []

    class Killed(Exception):
        pass

    from featherdesk.compress import finetune as module

    keep = module._Run._optimize

    def kill(self: module._Run, batches: object) -> float:
        if self.step == 4 and not seen:
            seen.append(self.step)
            raise Killed
        return keep(self, batches)  # type: ignore[arg-type]

    module._Run._optimize = kill  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(Killed):
            finetune(tiny, rows[:20], rows[20:], tmp_path / "cut", _config(), progress=False)
    finally:
        module._Run._optimize = keep  # type: ignore[method-assign]
    again = finetune(tiny, rows[:20], rows[20:], tmp_path / "cut", _config(), progress=False)
    assert again.steps == whole.steps
    assert again.validation_loss == pytest.approx(whole.validation_loss, rel=1e-3)


def test_going_on_takes_the_batches_that_would_have_come(tiny: Path, tmp_path: Path) -> None:
    import random
    from itertools import islice

    import torch
    from featherdesk.compress import finetune as module
    from featherdesk.compress.dataset import encode, pack

    encoded = [encode(row, lambda text: list(text.encode())) for row in _rows(24)]
    config = _config(batch=1, length=700)
    run = module._Run(tiny, tmp_path / "a", config, torch.device("cpu"), None, encoded, 0)
    whole = [batch[0].ids.tolist() for batch in islice(run._batches(), 60)]
    epoch = len(pack(encoded, config.length, random.Random(config.seed)))
    assert epoch < 24  # several rows share a sequence
    run.step = epoch // config.accumulate + 1  # in the second epoch
    rest = [batch[0].ids.tolist() for batch in islice(run._batches(), 20)]
    begin = run.step * config.accumulate
    assert rest == whole[begin : begin + 20]
    assert rest != whole[:20]


def test_every_evaluation_is_told(tiny: Path, tmp_path: Path) -> None:
    rows = _rows(12)
    told: list[tuple[int, float, float]] = []
    result = finetune(
        tiny,
        rows[:8],
        rows[8:],
        tmp_path / "a",
        _config(),
        progress=False,
        told=lambda *one: told.append(one),
    )
    assert [(step, loss) for step, _, loss in told] == list(result.curve)
    assert [seconds for _, seconds, _ in told] == sorted(seconds for _, seconds, _ in told)


def test_bf16_is_taken_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from featherdesk.compress.methods import has_bf16

    told: dict[str, object] = {"avx512_f": True, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    assert not has_bf16(torch.device("cpu"))
    told["avx512_bf16"] = True
    assert has_bf16(torch.device("cpu")) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_a_checkpoint_of_other_settings_is_not_taken(tiny: Path, tmp_path: Path) -> None:
    rows = _rows(12)
    finetune(tiny, rows[:8], rows[8:], tmp_path / "a", _config(), progress=False)
    with pytest.raises(ConfigError, match="other settings"):
        finetune(tiny, rows[:8], rows[8:], tmp_path / "a", _config(rank=8), progress=False)


def test_a_checkpoint_of_other_rows_is_begun_anew(tiny: Path, tmp_path: Path) -> None:
    rows = _rows(16)
    trained: list[list[int]] = []
    for told in (rows[:8], rows[:8], rows[4:12]):
        steps: list[int] = []
        finetune(
            tiny, told, rows[12:], tmp_path / "a", _config(), progress=False,
            told=lambda step, *_, seen=steps: seen.append(step),
        )  # fmt: skip
        trained.append(steps)
    assert trained[1] == []
    assert trained[2] == trained[0] != []


def test_training_continues_an_adapter(tiny: Path, tmp_path: Path) -> None:
    rows = _rows(24)
    first = finetune(tiny, rows[:20], rows[20:], tmp_path / "a", _config(), progress=False)
    second = finetune(
        tiny,
        rows[:20],
        rows[20:],
        tmp_path / "b",
        _config(),
        progress=False,
        start_from=tmp_path / "a",
    )
    assert second.first_validation_loss == pytest.approx(first.validation_loss, rel=0.02)


def test_early_stopping_ends_a_run_that_gets_no_better(tiny: Path, tmp_path: Path) -> None:
    rows = _rows(12)
    config = _config(max_steps=40, evaluate_every=1, patience=2, learning_rate=0.5)
    result = finetune(tiny, rows[:8], rows[8:], tmp_path / "a", config, progress=False)
    assert result.steps < 40


def test_nothing_to_train_on_is_said(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatherdeskError, match="nothing to train on"):
        finetune(tiny, [], [], tmp_path / "a", _config(), progress=False)


@pytest.mark.parametrize(("length", "part"), [(12, "training"), (256, "validation")])
def test_rows_that_are_all_too_long_are_said(
    tiny: Path, tmp_path: Path, length: int, part: str
) -> None:
    short = [replace(row, entries=()) for row in _rows(4)]
    long = [replace(row, entries=(Entry("a", "q", "a " * 200),)) for row in _rows(4)]
    given = (long, short) if part == "training" else (short, long)
    message = f"no row of the {part} part has at most {length} tokens"
    with pytest.raises(FeatherdeskError, match=message):
        finetune(tiny, *given, tmp_path / "a", _config(length=length), progress=False)


def test_weights_and_biases_is_told_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    stand_in = SimpleNamespace(init=lambda **given: told.append(given))
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    Logs(tmp_path / "a", _config()).close()
    assert told == []
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    Logs(tmp_path / "b", _config()).close()
    assert [one["project"] for one in told] == ["ours"]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="rank"):
        TrainingConfig(rank=0)
    with pytest.raises(ConfigError, match="learning_rate"):
        TrainingConfig(learning_rate=3)


@pytest.mark.parametrize(
    ("apart", "distil", "told"), [(0, "0.5", False), (8, "0", False), (8, "0.5", True)]
)
def test_the_card_tells_whether_entries_may_be_read_one_by_one(
    tiny: Path, tmp_path: Path, apart: int, distil: str, told: bool
) -> None:
    rows = [replace(row, block=number < apart) for number, row in enumerate(_rows(16))]
    save(rows, tmp_path / "rows.jsonl")
    settings = ["--rank", "4", "--max-steps", "2", "--distil", distil, "--base", str(tiny)]
    command = [str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "a"), *settings]
    run = CliRunner().invoke(commands.finetune, command, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "a" / "card.json").read_text())["blocks"] is told


@pytest.mark.parametrize("bits", [0, 4])
def test_what_is_read_one_by_one_learns_from_all_in_view(
    lively: Path, tmp_path: Path, bits: int
) -> None:
    rows = [
        replace(row, entries=(*row.entries, Entry("b", "where", "in town")), block=True)
        for row in _rows(48)
    ]
    config = _config(distil=1.0, bits=bits, max_steps=16, evaluate_every=16)
    result = finetune(lively, rows[:40], rows[40:], tmp_path / "a", config, progress=False)
    assert 0 < result.validation_loss < 0.9 * result.first_validation_loss


def test_how_far_the_doubts_lie_apart_counts_where_an_answer_begins(
    lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [replace(row, entries=(*row.entries, *row.entries), block=True) for row in _rows(12)]
    config = _config(distil=1.0, max_steps=1, evaluate_every=1)

    def first_loss(name: str) -> float:
        out = tmp_path / name
        told = finetune(lively, rows[:8], rows[8:], out, config, progress=False)
        return told.first_validation_loss

    with_doubt = first_loss("a")
    monkeypatch.setattr("featherdesk.compress.finetune.DOUBT", 0.0)
    assert with_doubt > first_loss("b") > 0


@pytest.mark.parametrize(
    "changes", [{"method": Method.DORA}, {"compiled": True}, {"dropout": 0.1}, {"block_size": 33}]
)
def test_rounding_goes_with_plain_lora(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        _config(bits=4, **changes)


def test_training_sets_its_threads(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as a container may use, or as the settings say."""
    before, rows = torch.get_num_threads(), _rows(24)
    monkeypatch.setattr("featherdesk.compress.finetune.available_cores", lambda: 1)
    try:
        for threads, wanted in ((0, 1), (3, 3)):
            config = _config(threads=threads, max_steps=1, evaluate_every=1)
            out = tmp_path / str(threads)
            finetune(tiny, rows[:20], rows[20:], out, config, progress=False)
            assert torch.get_num_threads() == wanted
    finally:
        torch.set_num_threads(before)

"""The comparison of training speeds: its arithmetic, and one run over a tiny model."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "measure_training.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import importlib

    return importlib.import_module("measure_training")


def _side(script: ModuleType, seconds: float, losses: list[float]) -> object:
    points = [script.Point(step, step * seconds, loss, 100.0) for step, loss in enumerate(losses)]
    side = script.Side(questions=30, answer_tokens=90, tokens=300, steps=len(losses) - 1)
    side.curve.extend(points)
    return side


def test_the_ratio_is_of_the_seconds_to_the_same_loss(script: ModuleType) -> None:
    plain = _side(script, 10.0, [4.0, 3.0, 2.0])
    told = script.compared(plain, _side(script, 4.0, [4.0, 2.5, 1.5]))
    assert told["reaches_the_plain_loss"]
    assert told["seconds_plain"] == 20.0
    assert told["seconds"] == pytest.approx(6.0)  # half way between 2.5 and 1.5
    assert told["ratio_to_same_loss"] == pytest.approx(20 / 6)
    assert told["ratio_questions_per_s"] == pytest.approx(10 / 4)


def test_a_side_that_ends_higher_is_compared_where_it_ends(script: ModuleType) -> None:
    plain = _side(script, 10.0, [4.0, 3.0, 2.0])
    told = script.compared(plain, _side(script, 4.0, [4.0, 3.5, 3.0]))
    assert not told["reaches_the_plain_loss"]
    assert (told["seconds_plain"], told["seconds"]) == (10.0, 8.0)


def test_a_loss_that_never_falls_has_no_ratio(script: ModuleType) -> None:
    plain = _side(script, 10.0, [4.0, 3.0, 2.0])
    assert script.compared(plain, _side(script, 4.0, [4.0, 5.0]))["ratio_to_same_loss"] is None


def test_the_plain_loop_meets_the_rows_in_our_order(
    script: ModuleType, tiny: Path, tmp_path: Path
) -> None:
    import training_sides as sides
    from featherdesk.compress.dataset import encode
    from featherdesk.compress.finetune import epoch_batches

    rows, held = script.lessons((), 24, 3, tiny, 2000)
    config = script.TrainingConfig(length=2000)
    made = script.prepared(("trainer", "ours"), tiny, rows, held, config, tmp_path)
    job, side = made["trainer"]
    tokens = sides.encoder(tiny)
    ordered = sides.in_our_order(job.rows, tokens, job)
    assert sorted(map(str, ordered)) == sorted(map(str, job.rows))
    assert len(ordered) == side.questions == made["ours"][1].questions
    assert side.steps <= made["ours"][1].steps
    batches = epoch_batches([encode(row, tokens) for row in job.rows], config, 0)
    ids = [token for batch in batches for one in batch for token in one.ids.tolist()]
    assert ids == [token for row in ordered for token in encode(row, tokens).ids.tolist()]


def test_the_sides_train_in_turn_to_a_file_and_a_picture(tiny: Path, tmp_path: Path) -> None:
    from featherdesk.agent.types import Entry
    from featherdesk.compress.dataset import Question, Row, save

    asked = (Question("ask", "a3"), Question("again", "a4"))
    rows = [Row((Entry("a", f"q{n}", "a3"),), asked, str(n), "t", n % 2 == 0) for n in range(30)]
    save(rows, tmp_path / "rows.jsonl")
    out = tmp_path / "out.json"
    command = [sys.executable, str(SCRIPT), str(tmp_path / "rows.jsonl"), "--out", str(out)]
    command += ["--base", str(tiny), "--questions", "40", "--stretch", "1", "--threads", "1"]
    command += ["--learning-rate", "5e-3"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(out.read_text())
    assert json.loads(ran.stdout) == told["against_trainer"]
    assert set(told["against_trainer"]) == {"ours", "alone"}
    for side in told["sides"].values():
        assert side["finished"]
        assert side["questions"] == 40
        first, *_, last = side["curve"]
        assert last["loss"] < first["loss"]
    firsts = [side["curve"][0]["loss"] for side in told["sides"].values()]
    assert firsts == pytest.approx([firsts[0]] * 3, rel=0.02)  # bf16 beside fp32
    turns = [line.split(":")[0] for line in ran.stderr.splitlines() if ": step" in line]
    assert turns[3:6] == ["trainer", "ours", "alone"]
    assert (tmp_path / "out.png").stat().st_size > 1000

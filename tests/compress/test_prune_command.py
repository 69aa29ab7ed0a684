import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from featherdesk.agent.errors import ConfigError
from featherdesk.compress import dataset
from featherdesk.compress.architecture import open_model, shape_of
from featherdesk.compress.prune_command import distill, prune
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def rows(lively: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from .conftest import task_of

    folder = tmp_path_factory.mktemp("rows")
    path = folder / "rows.jsonl"
    dataset.save(task_of(lively, folder).material.rows, path)
    return str(path)


def _ran(command: object, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(one) for one in arguments])  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_cut_in_order_then_healing(lively: Path, tmp_path: Path, rows: str) -> None:
    out, healed = tmp_path / "out", tmp_path / "healed"
    cuts = ("--vocabulary", 259, "--layers", 1, "--heads", 1, "--channels", 64, "--sparsity", 0.5)
    calibration = ("--calibration", rows)
    result = _ran(prune, lively, "--out", out, *cuts, *calibration, "--compact", tmp_path / "c")
    told = json.loads(result.stdout)
    names = ["vocabulary", "layers", "heads", "channels", "sparsity"]
    assert [step["step"] for step in told["steps"]] == names
    assert f"featherdesk distill {out} --parent {lively}" in result.stderr
    assert "not on a CPU" in result.stderr
    assert [step["step"] for step in json.loads((out / "compression.json").read_text())] == names
    shape = shape_of(out)
    assert (shape.vocabulary, shape.layers, shape.kv_heads, shape.channels) == (259, 3, 1, 64)
    assert told["compact_bytes"] < told["bytes"]
    assert not list(tmp_path.glob(".*"))

    result = _ran(prune, tmp_path / "c", "--out", tmp_path / "plain")
    wanted, got = (load_file(f / "model.safetensors") for f in (out, tmp_path / "plain"))
    assert all((got[name] == tensor).all() for name, tensor in wanted.items())

    learn = ("--tokens", 4000, "--batch", 2, "--no-compiled", "--learning-rate", 0.003)
    result = _ran(distill, out, "--parent", lively, "--out", healed, *learn, *calibration)
    (step,) = json.loads(result.stdout)["steps"]
    assert step["after"]["divergence"] < step["before"]["divergence"]
    open_model(healed)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (("--layers", 31), "remove 31 of 4 layers"),
        (("--heads", 2), "keep 2 KV heads, the model has 2"),
        (("--heads", 0), "keep must be at least 1"),
        (("--channels", 128), "the model has 128"),
        (("--vocabulary", 999), "the model has 320"),
        (("--sparsity", "most"), "a share such as 0.5, or 2:4, not 'most'"),
        (("--sparsity", "1.5"), "share is above 0 and below 1"),
        (("--layers", 1, "--calibration", "nothing.txt"), "no such file"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(
    lively: Path, tmp_path: Path, cut: tuple[object, ...], message: str
) -> None:
    from featherdesk.agent.errors import FeatherdeskError

    with pytest.raises(FeatherdeskError, match=message):
        _ran(prune, lively, "--out", tmp_path / "out", *cut)
    assert not list(tmp_path.iterdir())


def test_nothing_to_cut_is_a_usage_error(lively: Path, tmp_path: Path, rows: str) -> None:
    result = _ran(prune, lively, "--out", tmp_path / "out", "--calibration", rows)
    assert result.exit_code == 2
    assert "nothing to cut" in result.stderr


def test_a_folder_of_something_else_is_not_replaced(
    lively: Path, tmp_path: Path, rows: str
) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    for out, message in (
        (tmp_path, "no folder that featherdesk wrote"),
        (lively, "would overwrite"),
    ):
        with pytest.raises(ConfigError, match=message):
            _ran(prune, lively, "--out", out, "--layers", 1, "--calibration", rows)
    assert (tmp_path / "letters.txt").read_text() == "dear"
    open_model(lively)

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.blocks import Block, BlockStore
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress import proof as module
from featherdesk.compress.export import ExportFast
from featherdesk.compress.precision import Quantization


def test_an_export_is_kept_only_with_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Quantization] = []

    def export(model: Path, out: Path, plan: Quantization) -> None:
        made.append(plan)
        out.mkdir(exist_ok=True)
        (out / "parity.json").write_text(json.dumps({"quantization": asdict(plan)}))

    monkeypatch.setattr(module, "export", export)
    place = tmp_path / "measured"
    for plan, count in (
        (ExportFast("int4", 32), 1),
        (ExportFast("int4", 32), 1),
        (ExportFast("int4", 64), 2),
        (ExportFast("int4", 64, finer=(0, 1)), 3),  # tuples are lists in JSON
        (ExportFast("int4", 64, finer=(0, 1)), 3),
    ):
        assert module._once(tmp_path, place, plan) == place
        assert len(made) == count
    (place / "parity.json").write_text("{")
    module._once(tmp_path, place, made[-1])
    assert len(made) == 4


def test_only_a_base_that_was_fetched_has_a_fetched_size(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module._fetched_mb("smollm2-135m-instruct") == 98.36
    assert module._fetched_mb("gemma-3-270m") == 253.11
    assert module._fetched_mb("smollm2-135m-instruct-hub") == 0
    assert module._fetched_mb(str(tiny)) == 0


KILLED = """
import os, pathlib, signal, sys
from featherdesk.compress import proof
from featherdesk.compress.precision import Quantization

event, name, model, place = sys.argv[1:]

def hook(told, given):
    if told != event:
        return
    path, ready = (given[1], True) if told == "os.rename" else (given[0], "w" in str(given[1]))
    if ready and pathlib.PurePath(str(path)).name == name:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
proof._once(pathlib.Path(model), pathlib.Path(place), Quantization(precision="fp32"))
"""


def test_entries_that_were_read_beforehand_are_measured_where_they_lie(tmp_path: Path) -> None:
    keys = np.ones((2, 3, 400, 8), np.float32)
    size = BlockStore.write(tmp_path / "blocks", [("a", Block.of(keys, keys))])
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "model.onnx").write_bytes(b"x" * 10**6)
    assert size > 38_400
    assert module._stored_mb(tmp_path) == pytest.approx(size / 1e6, abs=0.006)
    assert module._stored_mb(tmp_path / "generator") == module._stored_mb(None) == 0.0


@pytest.mark.parametrize(
    ("event", "name", "before"),
    [("open", "model.onnx", 0), ("open", "parity.json", 64), ("os.rename", "measured", 0)],
)
def test_an_export_that_was_killed_is_not_taken_for_a_finished_one(
    tiny: Path, tmp_path: Path, event: str, name: str, before: int
) -> None:
    place, wanted = tmp_path / "measured", Quantization(precision="fp32")
    if before:
        module._once(tiny, place, Quantization(precision="fp32", block_size=before))
    command = [sys.executable, "-c", KILLED, event, name, str(tiny), str(place)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert place.exists() == bool(before)
    if before:  # whole, and of its own settings
        assert _block_size(place) == before
        OnnxGenerator(place, 1)
    module._once(tiny, place, wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["measured"]
    assert _block_size(place) == wanted.block_size
    OnnxGenerator(place, 1)


def _block_size(place: Path) -> int:
    return int(json.loads((place / "parity.json").read_text())["quantization"]["block_size"])

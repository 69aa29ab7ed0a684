"""2:4 against dense: the race with tiny models on a CPU, the whole command on a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from featherdesk.compress.architecture import open_model
from featherdesk.compress.sparse_speed import race
from featherdesk.compress.sparsity import Sparsify

from .conftest import task_of


def _run(model: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "featherdesk.compress.sparse_speed", str(model)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_both_models_pass_over_every_shape(talkative: Path) -> None:
    model, other = open_model(talkative), open_model(talkative)
    torch.nn.init.zeros_(other.model.layers[1].mlp.down_proj.weight)
    shapes = [(1, 16), (3, 16), (3, 1)]
    same = race(model, model, shapes, rounds=3)
    assert [(one.batch, one.tokens) for one in same] == shapes
    for one in same:
        assert one.equal == 1.0
        assert one.dense_ms.of == one.sparse_ms.of == one.times.of == 3
        assert 0 < one.times.low <= one.times.median <= one.times.high
    assert race(model, other, shapes[:1], rounds=1)[0].equal < 1.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_the_command_says_where_it_works(tiny: Path) -> None:
    done = _run(tiny)
    assert done.returncode == 1
    assert "no NVIDIA GPU with sparse tensor cores here" in done.stderr
    assert "not on a CPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.needs_gpu
def test_a_gpu_times_a_model_with_zeros(tiny: Path, tmp_path: Path) -> None:
    Sparsify(pattern="2:4").run(tiny, tmp_path / "s", task_of(tiny, tmp_path))
    done = _run(tmp_path / "s")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["matrices"] > 0
    assert all(one["equal"] > 0.9 for one in told["passes"])

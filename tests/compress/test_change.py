from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.compress.architecture import layers_of, open_model
from featherdesk.compress.change import changed
from featherdesk.compress.forward import Batch
from featherdesk.compress.material import Material

from .conftest import task_of


@torch.no_grad()
def _silence(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
    layers_of(model)[0].mlp.down_proj.weight.zero_()
    return {"probes": len(probes)}


def test_what_was_changed_is_saved_and_its_effect_told(lively: Path, tmp_path: Path) -> None:
    task = task_of(lively, tmp_path)
    told = changed(lively, tmp_path / "same", task, lambda _model, _probes: {}, probes=2)
    assert told == {"divergence": pytest.approx(0, abs=1e-6)}
    told = changed(lively, tmp_path / "out", task, _silence, probes=2)
    assert told["probes"] == 2
    assert told["divergence"] > 0.001
    assert not layers_of(open_model(tmp_path / "out"))[0].mlp.down_proj.weight.any()
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_without_calibration_data_only_what_needs_none_goes(lively: Path, tmp_path: Path) -> None:
    task = replace(task_of(lively, tmp_path), material=Material((), ()))
    told = changed(lively, tmp_path / "out", task, _silence, probes=2, needed=False)
    assert told == {"probes": 0, "divergence": None}
    with pytest.raises(FeatherdeskError, match=r"no calibration data.*at most 448 tokens"):
        changed(lively, tmp_path / "no", task, _silence, probes=2)
    assert not (tmp_path / "no").exists()

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.compress.architecture import layers_of, open_model, save_model, shape_of
from featherdesk.compress.heads import PruneHeads, group_scores
from featherdesk.compress.material import Material
from featherdesk.compress.steps import Task

IDS = torch.arange(3, 43).view(2, 20)


@torch.no_grad()
def _logits(folder: Path) -> torch.Tensor:
    return torch.as_tensor(open_model(folder)(input_ids=IDS).logits)


@torch.no_grad()
def _silence(family: Path, out: Path, dead: list[int]) -> Path:
    """The model with one group a layer that writes nothing."""
    model = open_model(family)
    for layer, group in zip(layers_of(model), dead, strict=True):
        layer.self_attn.o_proj.weight[:, group * 32 : (group + 1) * 32] = 0
    save_model(model, family, out)
    return out


@pytest.mark.parametrize("compensate", [True, False])
def test_a_group_that_writes_nothing_goes_and_nothing_changes(
    family: Path, task: Task, tmp_path: Path, compensate: bool
) -> None:
    dead = [0, 1, 1, 0]
    source = _silence(family, tmp_path / "silent", dead)
    told = PruneHeads(1, compensate).run(source, tmp_path / "out", task)
    assert told["kept"] == [[1], [0], [0], [1]]
    assert told["divergence"] == pytest.approx(0, abs=1e-4)
    shape = shape_of(tmp_path / "out")
    assert (shape.heads, shape.kv_heads, shape.head_size) == (2, 1, 16)
    assert torch.allclose(_logits(tmp_path / "out"), _logits(source), atol=1e-4)


def test_taking_over_what_goes_hurts_less_than_dropping_it(
    family: Path, task: Task, tmp_path: Path
) -> None:
    kept = PruneHeads(1).run(family, tmp_path / "kept", task)
    dropped = PruneHeads(1, compensate=False).run(family, tmp_path / "dropped", task)
    assert 0 < kept["divergence"] < dropped["divergence"]


def test_the_score_is_the_norm_of_what_a_group_writes(family: Path) -> None:
    shape = shape_of(family)
    inputs = torch.randn(50, 64, generator=torch.Generator().manual_seed(2))
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    got = group_scores(weight, inputs.T @ inputs / 50, shape)
    for group, score in enumerate(got):
        part = slice(group * 32, (group + 1) * 32)
        wanted = (inputs[:, part] @ weight[:, part].T).pow(2).sum(-1).mean().sqrt()
        assert score == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("keep", [2, 3])
def test_more_heads_than_there_are_is_said_before_anything_is_loaded(
    family: Path, task: Task, tmp_path: Path, keep: int
) -> None:
    for path in family.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(b"nothing that loads")
    (tmp_path / "config.json").write_text((family / "config.json").read_text())
    with pytest.raises(ConfigError, match=f"keep {keep} KV heads, the model has 2"):
        PruneHeads(keep).run(tmp_path, tmp_path / "out", task)
    assert not (tmp_path / "out").exists()


def test_keeping_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        PruneHeads(0)


def test_without_calibration_data_it_says_so(family: Path, task: Task, tmp_path: Path) -> None:
    with pytest.raises(FeatherdeskError, match="no calibration data"):
        PruneHeads(1).run(family, tmp_path / "out", replace(task, material=Material((), ())))
    assert not (tmp_path / "out").exists()

from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import ConfigError
from featherdesk.compress.architecture import layers_of, open_model, save_model, shape_of
from featherdesk.compress.channels import PruneChannels, channel_scores
from featherdesk.compress.linear import refit
from featherdesk.compress.steps import Task

IDS = torch.arange(3, 43).view(2, 20)


@torch.no_grad()
def _logits(folder: Path) -> torch.Tensor:
    return torch.as_tensor(open_model(folder)(input_ids=IDS).logits)


@torch.no_grad()
@pytest.mark.parametrize("compensate", [True, False])
def test_channels_that_say_nothing_go_and_nothing_changes(
    family: Path, task: Task, tmp_path: Path, compensate: bool
) -> None:
    model = open_model(family)
    for number, layer in enumerate(layers_of(model)):
        dead = torch.randperm(128, generator=torch.Generator().manual_seed(number))[:64]
        layer.mlp.down_proj.weight[:, dead[:32]] = 0
        layer.mlp.up_proj.weight[dead[32:]] = 0
    save_model(model, family, tmp_path / "silent")
    told = PruneChannels(64, compensate).run(tmp_path / "silent", tmp_path / "out", task)
    assert told["divergence"] == pytest.approx(0, abs=1e-4)
    assert shape_of(tmp_path / "out").channels == 64
    assert torch.allclose(_logits(tmp_path / "out"), _logits(tmp_path / "silent"), atol=1e-4)


def test_taking_over_what_goes_hurts_less_than_dropping_it(
    family: Path, task: Task, tmp_path: Path
) -> None:
    kept = PruneChannels(96).run(family, tmp_path / "kept", task)
    dropped = PruneChannels(96, compensate=False).run(family, tmp_path / "dropped", task)
    assert 0 < kept["divergence"] < dropped["divergence"]


def test_the_score_is_activation_times_column() -> None:
    weight = torch.tensor([[3.0, 0.0], [4.0, 1.0]])
    gram = torch.tensor([[4.0, 9.0], [9.0, 16.0]])
    assert channel_scores(weight, gram).tolist() == [10.0, 4.0]


def test_a_column_that_copies_another_is_taken_over_whole() -> None:
    inputs = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    inputs[:, 2] = inputs[:, 0] * 2
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    fresh = refit(weight, inputs.T @ inputs / 200, [0, 1])
    assert torch.allclose(inputs[:, :2] @ fresh.T, inputs @ weight.T, atol=0.1)


@pytest.mark.parametrize("keep", [128, 200])
def test_not_fewer_channels_is_said_before_anything_is_loaded(
    family: Path, task: Task, tmp_path: Path, keep: int
) -> None:
    for path in family.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(b"nothing that loads")
    (tmp_path / "config.json").write_text((family / "config.json").read_text())
    with pytest.raises(ConfigError, match=f"keep {keep} channels, the model has 128"):
        PruneChannels(keep).run(tmp_path, tmp_path / "out", task)
    assert not (tmp_path / "out").exists()


def test_keeping_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        PruneChannels(0)
    with pytest.raises(ConfigError, match=r"between 0 and 1, not 1\.5"):
        PruneChannels(share=1.5)
    with pytest.raises(ConfigError, match="give one of them"):
        PruneChannels(64, share=0.5)


@pytest.mark.parametrize(
    ("there", "kept"), [(1536, 1024), (2048, 1280), (4864, 3328), (128, 96), (12, 8), (2, 1)]
)
def test_a_share_is_rounded_to_what_kernels_fill(there: int, kept: int) -> None:
    assert PruneChannels(share=0.667).kept(there) == kept


def test_a_share_of_the_channels_stays(family: Path, task: Task, tmp_path: Path) -> None:
    told = PruneChannels(share=0.667).run(family, tmp_path / "out", task)
    assert (told["channels"], told["of"]) == (96, 128)
    assert shape_of(tmp_path / "out").channels == 96

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import ConfigError
from featherdesk.compress.activations import probes_of
from featherdesk.compress.architecture import layers_of, open_model, save_model, shape_of
from featherdesk.compress.layers import RemoveLayers, block_influence, greedy_order
from featherdesk.compress.material import Material
from featherdesk.compress.methods import Method, TrainingConfig
from featherdesk.compress.steps import Task

from .conftest import task_of

IDS = torch.arange(3, 43).view(2, 20)


@torch.no_grad()
def _logits(folder: Path) -> torch.Tensor:
    return torch.as_tensor(open_model(folder)(input_ids=IDS).logits)


@torch.no_grad()
def _idle(family: Path, out: Path, layers: list[int]) -> Path:
    """The model with layers that leave what goes in as it is."""
    model = open_model(family)
    for number in layers:
        layer = layers_of(model)[number]
        layer.self_attn.o_proj.weight.zero_()
        if layer.self_attn.o_proj.bias is not None:
            layer.self_attn.o_proj.bias.zero_()
        layer.mlp.down_proj.weight.zero_()
    save_model(model, family, out)
    return out


@pytest.mark.parametrize("by", ["answers", "influence"])
def test_layers_that_do_nothing_go_and_nothing_changes(
    family: Path, task: Task, tmp_path: Path, by: str
) -> None:
    source = _idle(family, tmp_path / "idle", [1, 2])
    told = RemoveLayers(2, by).run(source, tmp_path / "out", task)
    assert sorted(told["removed"]) == [1, 2]
    assert told["divergence"] == pytest.approx(0, abs=1e-4)
    assert shape_of(tmp_path / "out").layers == 2
    assert torch.allclose(_logits(tmp_path / "out"), _logits(source), atol=1e-4)


def test_decoding_with_kept_keys_works_without_the_layer(
    family: Path, task: Task, tmp_path: Path
) -> None:
    RemoveLayers(which=(0, 2)).run(family, tmp_path / "out", task)
    model = open_model(tmp_path / "out")
    with torch.no_grad():
        whole = model(input_ids=IDS[:1]).logits[0, -1]
        kept = model(input_ids=IDS[:1, :-1], use_cache=True)
        step = model(input_ids=IDS[:1, -1:], past_key_values=kept.past_key_values)
    assert torch.allclose(step.logits[0, -1], whole, atol=1e-4)


def test_each_layer_keeps_its_kind_of_attention(family: Path, task: Task, tmp_path: Path) -> None:
    before = open_model(family).config
    RemoveLayers(which=(1,)).run(family, tmp_path / "out", task)
    after = open_model(tmp_path / "out").config
    for name in ("layer_types", "no_rope_layers"):
        old = getattr(before, name, None)
        if old is not None:
            assert getattr(after, name) == [old[0], old[2], old[3]]


def test_influence_is_how_far_a_layer_turns_its_input(
    family: Path, task: Task, tmp_path: Path
) -> None:
    source = _idle(family, tmp_path / "idle", [3])
    scores = block_influence(open_model(source), probes_of(source, task, 1))
    assert scores[3] == pytest.approx(0, abs=1e-5)
    assert min(scores[:3]) > 1e-3


def test_ranks_of_an_adalora_adapter_choose_the_layers(tiny: Path, tmp_path: Path) -> None:
    from featherdesk.compress.adalora import layer_ranks, module_ranks
    from featherdesk.compress.finetune import finetune

    task = task_of(tiny, tmp_path)
    config = TrainingConfig(
        method=Method.ADALORA, rank=4, alpha=8, max_steps=40, length=256, learning_rate=5e-3
    )
    rows, held = task.material.rows, task.material.held
    finetune(tiny, rows, held, tmp_path / "a", config, progress=False)
    ranks = layer_ranks(tmp_path / "a")
    modules = module_ranks(tmp_path / "a")
    assert set(ranks) == {0, 1}
    assert len(modules) == 2 * 7
    assert sum(modules.values()) == sum(ranks.values()) < 2 * 7 * 6
    told = RemoveLayers(1, "adalora", adapter=str(tmp_path / "a")).run(tiny, tmp_path / "o", task)
    assert told["removed"] == [min(ranks, key=lambda layer: (ranks[layer], -layer))]
    with pytest.raises(ConfigError, match="asks to remove 3 layers"):
        RemoveLayers(3, "adalora", adapter=str(tmp_path / "a")).fits(
            replace(shape_of(tiny), layers=9)
        )
    (tmp_path / "other").mkdir()
    told_ranks = (
        '{"peft_type": "ADALORA", "rank_pattern": {"model.layers.7.mlp.up_proj.lora_E": 3}}'
    )
    (tmp_path / "other" / "adapter_config.json").write_text(told_ranks)
    with pytest.raises(ConfigError, match="name its own base"):
        RemoveLayers(1, "adalora", adapter=str(tmp_path / "other")).fits(shape_of(tiny))
    (tmp_path / "other" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ConfigError, match="only AdaLoRA learns ranks"):
        layer_ranks(tmp_path / "other")
    with pytest.raises(ConfigError, match="not an adapter folder"):
        layer_ranks(tmp_path)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (RemoveLayers(31), "remove 31 of 4 layers"),
        (RemoveLayers(4), "remove 4 of 4 layers"),
        (RemoveLayers(which=(4,)), "layers are 0 to 3"),
    ],
)
def test_more_layers_than_there_are_is_said_before_anything_is_loaded(
    family: Path, task: Task, tmp_path: Path, step: RemoveLayers, message: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing that loads")
    (tmp_path / "config.json").write_text((family / "config.json").read_text())
    with pytest.raises(ConfigError, match=message):
        step.run(tmp_path, tmp_path / "out", task)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"remove": 0}, "at least 1"),
        ({"by": "chance"}, "by must be"),
        ({"which": (1, 1)}, "twice"),
        ({"by": "adalora"}, "belong together"),
        ({"adapter": "a"}, "belong together"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RemoveLayers(**settings)  # type: ignore[arg-type]


def test_named_layers_need_no_calibration_data(family: Path, task: Task, tmp_path: Path) -> None:
    blind = replace(task, material=Material((), ()))
    told = RemoveLayers(which=(1,)).run(family, tmp_path / "out", blind)
    assert told["divergence"] is None


def test_an_order_that_must_end_soon_follows_what_was_seen_first(
    talkative: Path, tmp_path: Path
) -> None:
    task = task_of(talkative, tmp_path)
    model, probes = open_model(talkative), probes_of(talkative, task, 1)
    layers = len(model.model.layers)
    whole = [layer for layer, _ in greedy_order(model, probes, layers - 1, progress=False)]
    soon = greedy_order(model, probes, layers - 1, progress=False, going_on=lambda: False)
    assert soon[0][0] == whole[0]
    assert len({layer for layer, _ in soon}) == layers - 1
    assert [loss for _, loss in soon] == sorted(loss for _, loss in soon)
    assert len(model.model.layers) == layers

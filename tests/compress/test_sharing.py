from dataclasses import replace
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import ConfigError
from featherdesk.compress.architecture import layers_of, open_model, save_model
from featherdesk.compress.compact import compact, expand
from featherdesk.compress.material import Material
from featherdesk.compress.sharing import ShareWeights, _apart, share_layers, tie, untie
from featherdesk.compress.steps import Task
from safetensors.torch import load_file


def _up(folder: Path) -> list[torch.Tensor]:
    return [layer.mlp.up_proj.weight.detach() for layer in layers_of(open_model(folder))]


def test_the_group_that_costs_least_shares_and_is_stored_once(
    family: Path, task: Task, tmp_path: Path
) -> None:
    model = open_model(family)
    share_layers(model, [1, 2], "all", "first")
    save_model(model, family, tmp_path / "alike")
    told = ShareWeights(groups=1, parts="all").run(tmp_path / "alike", tmp_path / "out", task)
    assert told["groups"] == [[1, 2]]
    assert told["divergence"] == pytest.approx(0, abs=1e-6)
    ups = _up(tmp_path / "out")
    assert torch.equal(ups[1], ups[2])
    assert not torch.equal(ups[0], ups[1])
    layer = sum(w.numel() for w in layers_of(open_model(family))[0].parameters() if w.dim() > 1)
    assert told["bytes"] - told["compact_bytes"] > layer * 4


def test_average_and_first(family: Path, task: Task, tmp_path: Path) -> None:
    before = _up(family)
    told = ShareWeights(which=(0, 2)).run(family, tmp_path / "a", task)
    assert told["groups"] == [[0, 1], [2, 3]]
    assert told["divergence"] > 0
    assert told["compact_bytes"] < told["compact_bytes_before"]
    after = _up(tmp_path / "a")
    assert torch.allclose(after[0], (before[0] + before[1]) / 2)
    assert torch.equal(after[2], after[3])
    ShareWeights(which=(1,), take="first", size=3).run(family, tmp_path / "f", task)
    assert all(torch.equal(w, before[1]) for w in _up(tmp_path / "f")[1:])
    own = layers_of(open_model(tmp_path / "f"))
    assert not torch.equal(own[1].self_attn.q_proj.weight, own[2].self_attn.q_proj.weight)


def test_a_compact_file_holds_shared_weights_once(family: Path, task: Task, tmp_path: Path) -> None:
    ShareWeights(which=(0,)).run(family, tmp_path / "s", task)
    sizes = compact(tmp_path / "s", tmp_path / "c")
    assert sizes.plain - sizes.compact > 3 * 64 * 128 * 4 * 0.9
    expand(tmp_path / "c", tmp_path / "e")
    wanted = load_file(tmp_path / "s" / "model.safetensors")
    got = load_file(tmp_path / "e" / "model.safetensors")
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    open_model(tmp_path / "e")


def test_tied_layers_learn_as_one_and_are_saved_apart(
    family: Path, task: Task, tmp_path: Path
) -> None:
    ShareWeights(which=(0,)).run(family, tmp_path / "s", task)
    model = open_model(tmp_path / "s")
    shared = tie(model)
    assert len(shared) == 3
    first, second = (layer.mlp.up_proj for layer in layers_of(model)[:2])
    assert first.weight is second.weight
    ids = torch.arange(3, 23)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.AdamW(model.parameters(), lr=0.1).step()
    untie(shared)
    save_model(model, tmp_path / "s", tmp_path / "healed")
    ups = _up(tmp_path / "healed")
    assert torch.equal(ups[0], ups[1])
    assert not torch.equal(ups[0], _up(tmp_path / "s")[0])
    assert not tie(open_model(family))


def test_groups_do_not_overlap_and_cost_least_together() -> None:
    effects = [5.0, 1.0, 5.0, 9.0, 4.0]
    assert _apart(effects, 1, 2) == [1]
    assert _apart(effects, 2, 2) == [1, 4]
    assert _apart(effects, 3, 2) == [0, 2, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": 3}, "asks for 6 layers in groups, the model has 4"),
        ({"which": (3,)}, "start at layers 0 to 2"),
    ],
)
def test_groups_that_do_not_fit_are_said_before_anything_is_loaded(
    family: Path, task: Task, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nothing that loads")
    (tmp_path / "config.json").write_text((family / "config.json").read_text())
    with pytest.raises(ConfigError, match=message):
        ShareWeights(**settings).run(tmp_path, tmp_path / "out", task)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_be_are_refused(family: Path, task: Task, tmp_path: Path) -> None:
    for settings, message in (
        ({"parts": "norms"}, "parts must be"),
        ({"take": "last"}, "take must be"),
        ({"groups": 0}, "groups must be"),
        ({"size": 1}, "size must be"),
        ({"which": (0, 1)}, "ascend by at least 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            ShareWeights(**settings)  # type: ignore[arg-type]
    blind = replace(task, material=Material((), ()))
    assert ShareWeights(which=(0,)).run(family, tmp_path / "o", blind)["divergence"] is None

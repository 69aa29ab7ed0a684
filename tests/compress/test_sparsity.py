from dataclasses import replace
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import CatalogError, ConfigError, FeatherdeskError
from featherdesk.compress.architecture import layers_of, open_model
from featherdesk.compress.compact import compact, compact_bytes, expand
from featherdesk.compress.masks import by_magnitude, by_wanda, sparsegpt, two_of_four
from featherdesk.compress.material import Material
from featherdesk.compress.sparsity import Sparsify, accelerate, keep_zeros, zeros_of
from featherdesk.compress.steps import Task
from safetensors.torch import load_file, save_file

WAYS = ("magnitude", "wanda", "sparsegpt")


def _matrices(folder: Path) -> list[torch.Tensor]:
    return [
        weight.detach()
        for layer in layers_of(open_model(folder))
        for weight in layer.parameters()
        if weight.dim() == 2
    ]


@pytest.mark.parametrize("by", WAYS)
def test_half_of_every_matrix_goes_and_transformers_loads_the_rest(
    family: Path, task: Task, tmp_path: Path, by: str
) -> None:
    told = Sparsify(0.5, by=by).run(family, tmp_path / "out", task)
    for weight in _matrices(tmp_path / "out"):
        assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)
    assert told["zeros"] == pytest.approx(0.5, abs=1e-3)
    assert told["divergence"] > 0
    assert told["compact_bytes"] < told["bytes"]
    assert "not on a CPU" in told["speed"]


@pytest.mark.parametrize("by", WAYS)
def test_two_of_every_four_go(family: Path, task: Task, tmp_path: Path, by: str) -> None:
    Sparsify(pattern="2:4", by=by).run(family, tmp_path / "out", task)
    for weight in _matrices(tmp_path / "out"):
        assert int((weight.view(-1, 4) != 0).sum(1).max()) == 2


@pytest.mark.parametrize("pattern", [False, True])
def test_what_each_method_keeps_of_the_output(pattern: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 64, generator=generator) @ torch.randn(64, 64, generator=generator)
    inputs *= torch.rand(64, generator=generator) * 4
    weight = torch.randn(48, 64, generator=generator)
    gram = inputs.T @ inputs / 400
    masks = {
        "magnitude": by_magnitude(weight, 0.5, pattern=pattern),
        "wanda": by_wanda(weight, gram, 0.5, pattern=pattern),
    }
    made = {name: weight.masked_fill(mask, 0) for name, mask in masks.items()}
    made["sparsegpt"] = sparsegpt(weight, gram, 0.5, pattern=pattern)
    lost = {name: float((inputs @ (weight - w).T).pow(2).mean()) for name, w in made.items()}
    assert lost["sparsegpt"] < lost["wanda"] < lost["magnitude"]


def test_sparsegpt_changes_nothing_where_half_is_zero_already() -> None:
    weight = torch.randn(16, 160, generator=torch.Generator().manual_seed(0))
    weight[:, ::2] = 0
    inputs = torch.randn(300, 160, generator=torch.Generator().manual_seed(1))
    same = sparsegpt(weight, inputs.T @ inputs / 300, 0.5)
    assert torch.allclose(same, weight)


def test_ties_do_not_take_more_than_the_share() -> None:
    assert int(by_magnitude(torch.ones(4, 8), 0.25).sum()) == 8
    assert int(two_of_four(torch.ones(4, 8)).sum()) == 16


@pytest.mark.parametrize(
    ("step", "form"),
    [(Sparsify(0.5), "mask"), (Sparsify(pattern="2:4"), "2:4"), (Sparsify(0.02), "plain")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_compact_file_comes_back_bit_for_bit(
    tiny: Path, tmp_path: Path, step: Sparsify, form: str, dtype: torch.dtype
) -> None:
    from .conftest import task_of

    step.run(tiny, tmp_path / "s", task_of(tiny, tmp_path))
    told = load_file(tmp_path / "s" / "model.safetensors")
    told = {name: tensor.to(dtype) for name, tensor in told.items()}
    name = "model.layers.0.mlp.up_proj.weight"
    told[name][0, 0] = -0.0  # a bit that a comparison with zero does not see
    told[name][0, 1] = float("nan")
    save_file(told, tmp_path / "s" / "model.safetensors", {"format": "pt"})
    sizes = compact(tmp_path / "s", tmp_path / "c")
    assert not list((tmp_path / "c").glob("*.safetensors"))
    expand(tmp_path / "c", tmp_path / "e")
    again = load_file(tmp_path / "e" / "model.safetensors")
    assert told.keys() == again.keys()
    kind = torch.int32 if dtype is torch.float32 else torch.int16
    for key, tensor in told.items():
        assert torch.equal(tensor.view(kind), again[key].view(kind)), key
    foretold = compact_bytes(tmp_path / "s")
    assert foretold.compact == pytest.approx(sizes.compact, rel=0.1)
    if form != "plain":
        assert sizes.compact < 0.85 * sizes.plain
    open_model(tmp_path / "e")


def test_two_of_four_is_stored_in_its_own_form(tiny: Path, tmp_path: Path) -> None:
    from .conftest import task_of

    Sparsify(pattern="2:4").run(tiny, tmp_path / "s", task_of(tiny, tmp_path))
    compact(tmp_path / "s", tmp_path / "c")
    parts = load_file(tmp_path / "c" / "weights.compact")
    name = "model.layers.1.self_attn.q_proj.weight"
    assert parts[f"{name}#values"].shape == (64 * 64 // 4, 2)
    assert parts[f"{name}#places"].numel() == 64 * 64 // 8


def test_a_damaged_compact_file_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    compact(tiny, tmp_path / "c")
    file = tmp_path / "c" / "weights.compact"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CatalogError, match="damaged"):
        expand(tmp_path / "c", tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises(CatalogError, match="holds no weights"):
        expand(tiny, tmp_path / "e")


def test_zeros_survive_an_optimizer_step(family: Path, task: Task, tmp_path: Path) -> None:
    Sparsify(0.5).run(family, tmp_path / "out", task)
    model = open_model(tmp_path / "out")
    zeros = zeros_of(model)
    assert len(zeros) == 4 * 7
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    ids = torch.arange(3, 23)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    assert all((weight[zero] != 0).any() for weight, zero in zeros)
    keep_zeros(zeros)
    assert all((weight[zero] == 0).all() for weight, zero in zeros)
    assert not zeros_of(open_model(family))


def test_magnitude_needs_no_data_and_wanda_does(family: Path, task: Task, tmp_path: Path) -> None:
    blind = replace(task, material=Material((), ()))
    told = Sparsify(0.3, by="magnitude").run(family, tmp_path / "m", blind)
    assert told["divergence"] is None
    with pytest.raises(FeatherdeskError, match="no calibration data"):
        Sparsify(0.3).run(family, tmp_path / "w", blind)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.0}, "share is above 0"),
        ({"share": 0.0}, "share is above 0"),
        ({"pattern": "1:4"}, "pattern must be"),
        ({"pattern": "2:4", "share": 0.6}, "leave one out"),
        ({"by": "chance"}, "by must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sparsify(**settings)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_acceleration_says_where_it_works(tiny: Path) -> None:
    with pytest.raises(FeatherdeskError, match="no NVIDIA GPU with sparse tensor cores"):
        accelerate(open_model(tiny))


@pytest.mark.needs_gpu
def test_tensor_cores_compute_the_same(tmp_path: Path, tiny: Path) -> None:
    from .conftest import task_of

    Sparsify(pattern="2:4").run(tiny, tmp_path / "s", task_of(tiny, tmp_path))
    model = open_model(tmp_path / "s", torch.float16).to("cuda")
    ids = torch.arange(64, device="cuda")[None]
    with torch.no_grad():
        wanted = model(input_ids=ids).logits.float()
        assert accelerate(model) > 0
        got = model(input_ids=ids).logits.float()
    assert torch.allclose(got, wanted, atol=0.05)

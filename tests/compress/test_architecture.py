import json
from pathlib import Path

import pytest
from featherdesk.agent.errors import CatalogError, FeatherdeskError
from featherdesk.compress.architecture import open_model, save_model, shape_of


def _copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_the_shape_is_read_from_the_configuration(family: Path) -> None:
    shape = shape_of(family)
    assert (shape.layers, shape.hidden, shape.channels, shape.vocabulary) == (4, 64, 128, 320)
    assert (shape.heads, shape.kv_heads, shape.head_size, shape.group) == (4, 2, 16, 2)
    assert shape.tied == (shape.architecture != "qwen3")


def test_what_is_saved_opens_again_with_its_tokenizer(family: Path, tmp_path: Path) -> None:
    save_model(open_model(family), family, tmp_path / "out")
    assert shape_of(tmp_path / "out") == shape_of(family)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        family / "tokenizer.json"
    ).read_bytes()


def test_an_unknown_architecture_is_named(tiny: Path, tmp_path: Path) -> None:
    folder = _copy(tiny, tmp_path / "m")
    told = json.loads((folder / "config.json").read_text()) | {"model_type": "mamba"}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(CatalogError, match="architecture 'mamba' cannot be compressed; supported"):
        open_model(folder)


def test_a_folder_without_weights_is_called_half_written(tiny: Path, tmp_path: Path) -> None:
    folder = _copy(tiny, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CatalogError, match="half-written"):
        open_model(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_do_not_load(tiny: Path, tmp_path: Path, share: float) -> None:
    folder = _copy(tiny, tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CatalogError, match="cannot be loaded"):
        open_model(folder)


def test_weights_that_lack_a_tensor_do_not_load(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = _copy(tiny, tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CatalogError, match=r"lacks 1 tensors, such as .*down_proj"):
        open_model(folder)


def test_weights_of_another_shape_do_not_load(tiny: Path, tmp_path: Path) -> None:
    folder = _copy(tiny, tmp_path / "m")
    told = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 96}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(FeatherdeskError, match="cannot be loaded"):
        open_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "llama"}'])
def test_a_damaged_configuration_is_named(tiny: Path, tmp_path: Path, text: str) -> None:
    folder = _copy(tiny, tmp_path / "m")
    (folder / "config.json").write_text(text)
    with pytest.raises(CatalogError, match=r"config\.json"):
        shape_of(folder)


def test_a_folder_without_configuration_and_none_at_all(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CatalogError, match=r"no config\.json"):
            open_model(folder)


def test_a_compact_folder_says_how_to_open_it(tiny: Path, tmp_path: Path) -> None:
    from featherdesk.compress.compact import compact

    compact(tiny, tmp_path / "c")
    with pytest.raises(CatalogError, match="featherdesk prune"):
        open_model(tmp_path / "c")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_is_said(
    error: Exception, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    def full(*_given: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(FeatherdeskError, match="does not fit into memory"):
        open_model(tiny)

"""A base and an adapter that do not belong together, or are damaged, end in one line."""

import json
import shutil
from pathlib import Path

import pytest
from featherdesk.agent.errors import CatalogError, FeatherdeskError
from featherdesk.compress.model import load_model, load_tokenizer, merge

from .conftest import kin


def _copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_base_is_named(tiny: Path, adapter: Path, tmp_path: Path, share: float) -> None:
    base = _copy(tiny, tmp_path / "base")
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CatalogError, match="base cannot be loaded"):
        merge(base, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_base_without_a_tensor_or_with_a_damaged_configuration(
    tiny: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = _copy(tiny, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(CatalogError, match="lacks 1 tensors"):
        load_model(base)
    (base / "config.json").write_text("{")
    with pytest.raises(CatalogError, match="cannot be loaded"):
        load_model(base)
    (base / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(CatalogError, match="cannot be loaded"):
        load_model(base)


def test_an_adapter_of_another_base_is_refused(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    wider = kin("llama", tiny, tmp_path / "wider", intermediate_size=160)
    with pytest.raises(FeatherdeskError, match=r"shopkeeper is damaged, or no adapter of .*wider"):
        merge(wider, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_damaged_adapter_is_refused(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    broken = _copy(adapter, tmp_path / "broken")
    whole = (broken / "adapter_model.safetensors").read_bytes()
    (broken / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatherdeskError, match="broken is damaged"):
        merge(tiny, broken, tmp_path / "merged")
    shutil.copy(adapter / "adapter_model.safetensors", broken)
    told = json.loads((adapter / "adapter_config.json").read_text())
    for text in ("{", "[]", json.dumps({**told, "target_modules": ["nothing"]})):
        (broken / "adapter_config.json").write_text(text)
        with pytest.raises(FeatherdeskError, match="broken is damaged"):
            merge(tiny, broken, tmp_path / "merged")
    (broken / "adapter_config.json").unlink()
    with pytest.raises(FeatherdeskError, match="broken is damaged"):
        merge(tiny, broken, tmp_path / "merged")


def test_a_damaged_tokenizer_is_named(tiny: Path, tmp_path: Path) -> None:
    base = _copy(tiny, tmp_path / "base")
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(CatalogError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(base)

"""A base and an adapter that do not belong together, or are damaged, end in one line; so does a full
disk."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from featherdesk.agent.errors import CatalogError, FeatherdeskError
from featherdesk.compress.architecture import open_model, save_model
from featherdesk.compress.model import load_model, load_tokenizer, merge, write_atomically
from safetensors import SafetensorError

from .conftest import kin

FULL = """
import resource, sys
from featherdesk.agent.cli import main
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main(sys.argv[2:])
"""
"""A command whose files may not grow beyond so many bytes: what a full disk looks like to it."""


def _full(limit: int, *arguments: object) -> "subprocess.CompletedProcess[str]":
    child = [sys.executable, "-c", FULL, str(limit), *map(str, arguments)]
    return subprocess.run(child, capture_output=True, text=True, check=False)


def test_a_failed_write_names_the_place_and_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    for error in (SafetensorError("I/O error: No space left"), OSError(28, "No space left")):

        def write(folder: Path, error: Exception = error) -> None:
            (folder / "half").write_text("half")
            raise error

        with pytest.raises(FeatherdeskError, match=r"out cannot be written: .*No space left.*free"):
            write_atomically(tmp_path / "out", write)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "old").read_text() == "old"


def test_a_model_takes_the_place_of_another(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    save_model(open_model(tiny), tiny, tmp_path / "out")
    assert not (tmp_path / "out" / "old").exists()
    open_model(tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("command", ["quantize", "prune"])
def test_a_command_on_a_full_disk_says_so_and_leaves_nothing(
    tiny: Path, tmp_path: Path, command: str
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"Parcel {n} takes {n} days." for n in range(40)))
    cut = ("--layers", 1, "--calibration", texts) if command == "prune" else ()
    done = _full(30_000, command, tiny, "--out", tmp_path / "out", *cut)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr
    assert "free space, and run the same command again" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out-[!w]*"))


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

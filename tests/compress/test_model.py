import subprocess
import sys
from pathlib import Path

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.compress.architecture import open_model, save_model
from featherdesk.compress.model import write_atomically
from safetensors import SafetensorError

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

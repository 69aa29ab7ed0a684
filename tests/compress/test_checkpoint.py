import subprocess
import sys
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.compress.checkpoint import load_checkpoint, save_checkpoint

FULL = """
import resource, sys
from pathlib import Path
import torch
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.compress.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(Path(sys.argv[1]), {"w": torch.ones(100_000)}, {"step": 2})
except FeatherdeskError as error:
    print(error)
"""


def test_tensors_and_state_come_back(tmp_path: Path) -> None:
    path = tmp_path / "scratch" / "state"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"w": torch.arange(3)}, {"step": 1, "curve": [(1, 0.5)]})
    save_checkpoint(path, {"w": torch.arange(4)}, {"step": 2, "curve": []})
    kept = load_checkpoint(path)
    assert kept is not None
    assert kept[0]["w"].tolist() == [0, 1, 2, 3]
    assert kept[1] == {"step": 2, "curve": []}
    assert [one.name for one in path.parent.iterdir()] == ["state"]


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_checkpoint(path, {"w": torch.zeros(2)}, {"step": 1})
    child = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    assert f"{path} cannot be written" in done.stdout
    assert "goes on from the last checkpoint" in done.stdout
    kept = load_checkpoint(path)
    assert kept is not None
    assert kept[1] == {"step": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_a_kill_before_the_exchange_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    save_checkpoint(path, {"w": torch.zeros(2)}, {"step": 1})

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", kill)
        with pytest.raises(Killed):
            save_checkpoint(path, {"w": torch.zeros(2)}, {"step": 2})
    kept = load_checkpoint(path)
    assert kept is not None
    assert kept[1] == {"step": 1}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"half")
    with pytest.raises(FeatherdeskError, match=r"state is damaged .*remove it to start anew"):
        load_checkpoint(tmp_path / "state")

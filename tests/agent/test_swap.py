"""A folder takes the place of another whole, whenever the process is killed."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from featherdesk.agent import swap
from featherdesk.agent.artifacts import Manifest, atomic_folder, is_bot, seal

KILLED = """
import os, pathlib, signal, sys
from featherdesk.agent import swap
from featherdesk.agent.artifacts import atomic_folder

target, exchange, event, number = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
if exchange == "no":
    swap._exchanged = lambda one, other: False
seen = []

def hook(told, given):
    if told == event:
        seen.append(told)
        if len(seen) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

with atomic_folder(target) as fresh:
    (fresh / "text").write_text("new")
    sys.addaudithook(hook)
"""


def _target(folder: Path) -> Path:
    (folder / "out").mkdir()
    (folder / "out" / "text").write_text("old")
    return folder / "out"


def _swap(target: Path, text: str = "new") -> None:
    with atomic_folder(target) as fresh:
        (fresh / "text").write_text(text)


def _between(target: Path) -> Path:
    """What is left by a kill between the two steps."""
    held = swap.hold(target).parent
    (held / "new" / "text").write_text("new")
    target.rename(held / "was")
    return held


@pytest.mark.parametrize("exchange", [True, False])
def test_the_new_folder_is_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(swap, "_exchanged", lambda one, other: False)
    target = tmp_path / "out"
    for text in ("first", "second"):
        _swap(target, text)
        assert (target / "text").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_at_no_moment_there_is_none(tmp_path: Path) -> None:
    target = _target(tmp_path)
    done, missing = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            if not target.exists():
                missing.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(300):
        _swap(target, str(number))
    done.set()
    looking.join()
    assert not missing


@pytest.mark.parametrize(
    ("exchange", "event", "number", "left", "then"),
    [
        ("yes", "shutil.rmtree", 1, "new", "new"),
        ("no", "os.rename", 1, "old", "old"),
        ("no", "os.rename", 2, "", "new"),
        ("no", "shutil.rmtree", 1, "new", "new"),
    ],
)
def test_killed_at_any_step_it_leaves_a_whole_folder(
    tmp_path: Path, exchange: str, event: str, number: int, left: str, then: str
) -> None:
    target = _target(tmp_path)
    command = [sys.executable, "-c", KILLED, str(target), exchange, event, str(number)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert target.exists() == bool(left)
    if left:
        assert (target / "text").read_text() == left
    swap.restore(target)
    assert (target / "text").read_text() == then
    swap.clear(target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_who_opens_a_bot_or_writes_its_place_ends_what_was_begun(tmp_path: Path) -> None:
    target = _target(tmp_path)
    told = seal(target, Manifest("b", "base", "h", "a", "c", ("en",), "e", 1, ("en",)))
    for opened in (Manifest.load, is_bot):
        held = _between(target)
        (held / "new" / "manifest.json").write_bytes((held / "was/manifest.json").read_bytes())
        assert opened(target) in (told, True)
        assert (target / "text").read_text() == "new"
        assert not held.exists()
    _between(target)
    with pytest.raises(RuntimeError), atomic_folder(target):
        raise RuntimeError
    assert (target / "text").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    half = swap.hold(target)  # of a process killed while it filled its folder
    (half.with_name("was")).mkdir()
    half.rmdir()  # and of one killed behind the second step
    other = swap.hold(target)
    swap.restore(target)
    assert not target.exists()
    assert other.exists()


def test_another_target_is_left_alone(tmp_path: Path) -> None:
    target = _target(tmp_path)
    other = target.rename(tmp_path / "out-refused")
    held = _between(other)
    swap.restore(target)
    swap.clear(target)
    assert not target.exists()
    assert held.exists()
    swap.restore(other)
    assert (other / "text").read_text() == "new"


def test_a_writer_whose_step_was_done_for_it_goes_on(tmp_path: Path) -> None:
    target = _target(tmp_path)
    held = _between(target)
    swap.restore(target)
    swap._end(held / "new", target)
    assert (target / "text").read_text() == "new"
    with pytest.raises(FileNotFoundError):
        swap._end(held / "new", tmp_path / "nowhere")


def test_what_alone_is_left_is_not_dropped(tmp_path: Path) -> None:
    target = _target(tmp_path)
    held = _between(target)
    swap.drop(held / "new", target)  # the second step failed
    assert (held / "was" / "text").read_text() == "old"
    swap.restore(target)
    assert (target / "text").read_text() == "new"


def test_a_link_is_replaced_and_what_it_names_stays(tmp_path: Path) -> None:
    real = _target(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("out")
    _swap(link)
    assert not link.is_symlink()
    assert (link / "text").read_text() == "new"
    assert (real / "text").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]

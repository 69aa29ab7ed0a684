import errno
import os
from pathlib import Path

import click
import pytest
from featherdesk.agent import cli
from featherdesk.agent.resources import out_of_memory, out_of_space, pages
from featherdesk.serve.machine import resident_mb


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_memory_that_ran_out_is_known_by_every_name(error: Exception) -> None:
    assert out_of_memory(error)


def test_pages_count_as_they_are_used() -> None:
    size, before = 256 * 2**20, resident_mb(os.getpid())
    made = pages(size)
    made[:: 2**20] = b"x" * 256  # a byte of every megabyte
    assert resident_mb(os.getpid()) - before < 30
    assert made[1] == 0
    assert len(made) == size


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_pages_are_the_process_own() -> None:
    """Memory that could be shared would not count as a server's own."""

    def shared_kb() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssShmem:"))

    before, made = shared_kb(), pages(8 * 2**20)
    made[:] = b"x" * len(made)
    assert shared_kb() - before < 1000


def test_more_pages_than_there_are_is_no_memory() -> None:
    with pytest.raises(MemoryError, match="not enough memory for 4611686018427387904 bytes"):
        pages(2**62)


def test_other_errors_are_not_taken_for_it() -> None:
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))
    assert not out_of_space(FileNotFoundError(errno.ENOENT, "No such file"))
    assert not out_of_space(RuntimeError("No space left on device"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "error: out of memory; close other programs"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "'/x/y'; free space and run"),
    ],
)
def test_a_command_ends_in_one_line(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def greedy() -> None:
        raise error

    monkeypatch.setattr(cli, "load", lambda *_: greedy)
    with pytest.raises(SystemExit) as done:
        cli.main(["models"])
    assert done.value.code == 1
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "load", lambda *_: broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["models"])

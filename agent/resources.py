"""Memory and disk: whether they ran out, of which each library has words of its own (it imports
none), and memory that was freed goes back to the machine.
"""

import ctypes
import errno
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["give_memory_back", "mapped_apart", "out_of_memory", "out_of_space", "pages"]

_MAP_FROM = -3
"""glibc's M_MMAP_THRESHOLD."""

_SAID = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "bad_alloc",
    "out of memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Python raises MemoryError; torch a RuntimeError, on a GPU one called OutOfMemoryError."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in _SAID)
    )


def out_of_space(error: BaseException) -> bool:
    """The disk, the user's share of it, or the size a file may have."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return isinstance(error, OSError) and error.errno in full


def give_memory_back() -> None:
    """Have glibc return what was freed; elsewhere nothing is done."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def pages(size: int) -> mmap.mmap:
    """So many bytes (at least one) of zeros, the process' own, which count page by page as they
    are used: for large arrays numpy asks for pages of 2 MB, and what lies between counts too.

    Raises:
        MemoryError: the system has not so many.
    """
    own = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    try:
        return mmap.mmap(-1, size, **own)
    except OSError as error:
        raise MemoryError(f"not enough memory for {size} bytes: {error}") from None


@contextmanager
def mapped_apart() -> Iterator[None]:
    """Have glibc map blocks from 128 KB on by themselves, for weights: what is freed among them
    leaves no holes. From then on those from 4 MB on, for the rest of the process; elsewhere nothing
    is done."""
    _map_from(128 * 1024)
    try:
        yield
    finally:
        _map_from(4 * 1024 * 1024)


def _map_from(size: int) -> None:
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_MAP_FROM, size)

"""Whether memory or disk ran out, of which each library has words of its own. Imports none."""

import errno

__all__ = ["out_of_memory", "out_of_space"]

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

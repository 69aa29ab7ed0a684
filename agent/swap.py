"""Puts a new folder in the place of another, so that at no moment a whole one is missing for good.

Linux and macOS let two folders change places in one step. Where the file system cannot (some of a
network's), the old one steps aside first; a process that is killed between the two steps leaves
both, whole, and who next opens or writes the place ends what was begun. Knows nothing of what is
in the folders.
"""

import ctypes
import glob
import os
import platform
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["clear", "drop", "hold", "put", "restore"]

_NEW, _WAS = "new", "was"
_HERE, _SWAP = -100, 2
"""AT_FDCWD of Linux; RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS."""


def hold(target: Path) -> Path:
    """An empty folder, hidden beside `target`, to be filled and then `put` there.

    Raises:
        OSError: the place cannot be written.
    """
    restore(target)
    new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)) / _NEW
    new.mkdir()
    new.chmod(0o755)
    return new


def put(new: Path, target: Path) -> None:
    """Put what `hold` gave in its place; what was there is to be dropped with it.

    Raises:
        OSError: the place cannot be written.
    """
    if not os.path.lexists(target):
        os.replace(new, target)
    elif not _exchanged(new, target):
        os.replace(target, new.with_name(_WAS))
        _end(new, target)


def drop(new: Path, target: Path) -> None:
    """Remove what `hold` gave with all beside it, unless nothing else is left of `target`."""
    if os.path.lexists(target) or not os.path.lexists(new.with_name(_WAS)):
        shutil.rmtree(new.parent, ignore_errors=True)


def restore(target: Path) -> None:
    """End what a process began that was killed while it put a folder at `target`."""
    if os.path.lexists(target):
        return
    for held in _held(target):
        if all(os.path.lexists(held / name) for name in (_WAS, _NEW)):  # between the two steps
            with suppress(OSError):
                _end(held / _NEW, target)
                shutil.rmtree(held, ignore_errors=True)
                return


def clear(target: Path) -> None:
    """Remove what killed processes left beside `target`, where nobody else may be writing it."""
    restore(target)
    for held in _held(target):
        shutil.rmtree(held, ignore_errors=True)


def _held(target: Path) -> list[Path]:
    """What `hold` made and nobody dropped: eight letters tell it from that of `target-2`."""
    return sorted(target.parent.glob(f".{glob.escape(target.name)}-????????"))


def _end(new: Path, target: Path) -> None:
    """The second step, unless who opened the place just now has done it."""
    try:
        os.replace(new, target)
    except FileNotFoundError:
        if not target.exists():
            raise


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two folders changed places; False where that cannot be, for whatever reason."""
    library = ctypes.CDLL(None)
    paths = [ctypes.c_char_p(os.fsencode(path)) for path in (one, other)]
    flag = ctypes.c_uint(_SWAP)
    if platform.system() == "Darwin":
        call = getattr(library, "renamex_np", None)
        return call is not None and call(*paths, flag) == 0
    call = getattr(library, "renameat2", None)
    here = ctypes.c_int(_HERE)
    return call is not None and call(here, paths[0], here, paths[1], flag) == 0

"""Whether torch.compile can work here: it writes C++ and needs a compiler for it."""

import os
import shutil
import sys
from collections.abc import Callable

__all__ = ["can_compile"]


def can_compile(notify: Callable[[str], None]) -> bool:
    """Whether the compiler that torch asks for is installed; if not, that is said once."""
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(wanted):
        return True
    notify(
        f"no C++ compiler ({wanted}) is installed, or name yours in CXX: training goes on "
        "uncompiled, which is slower"
    )
    return False

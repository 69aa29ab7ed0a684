"""How many cores a process may use, and who takes them."""

import os
from pathlib import Path

from threadpoolctl import threadpool_limits

__all__ = ["available_cores", "one_blas_thread"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores(quota: Path = _QUOTA) -> int:
    """The cores this process may run on, or fewer where a container's quota allows less.

    Libraries start a thread for each core that they see, also where they are given two of
    sixty-four: these then wait for each other.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = quota.read_text(encoding="ascii").split()
        return max(1, min(seen, round(int(most) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup, or "max"
        return seen


def one_blas_thread() -> None:
    """Have numpy multiply in one thread from now on, in the whole process.

    OpenBLAS's threads wait busily for a while after a product: on two cores the generator then
    shares them with a thread that does nothing, and a first word took twice as long. Routing, which
    is what multiplies, is no slower with one.
    """
    threadpool_limits(1, user_api="blas")

"""How many cores a process may use."""

import os
from pathlib import Path

__all__ = ["available_cores"]

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

"""How many joules work took: the processor's own counter (RAPL), else an estimate from CPU time.

RAPL counts all that the processor did meanwhile, not only our work. Knows nothing of models.
"""

import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WATTS", "EnergyMeter", "cpu_seconds"]

WATTS = 10.0
"""The estimate for one busy core, where the processor tells nothing."""

_ROOT = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class _Counter:
    """A counter of one processor package, in microjoules; starts at 0 again behind `limit`."""

    path: Path
    limit: int

    def read(self) -> int:
        return int(self.path.read_text())


class EnergyMeter:
    """Joules since the last `lap`; `method` tells how they were come by.

    The estimate is of this process, or of the one whose id is `pid`.
    """

    def __init__(self, root: Path = _ROOT, pid: int | None = None) -> None:
        self._counters = _counters(root)
        self._pid = pid
        self.method = (
            "RAPL, the whole processor"
            if self._counters
            else f"estimate: CPU seconds x {WATTS:.0f} W a core"
        )
        self._cpu = self._used()
        self._last = [counter.read() for counter in self._counters]

    def lap(self) -> float:
        """Joules since the last call, or since the meter was made."""
        cpu, before = self._used(), self._cpu
        self._cpu = cpu
        if not self._counters:
            return max(0.0, cpu - before) * WATTS
        now = [counter.read() for counter in self._counters]
        gone = zip(now, self._last, self._counters, strict=True)
        used = sum((new - old) % counter.limit for new, old, counter in gone)
        self._last = now
        return used / 1e6

    def _used(self) -> float:
        return time.process_time() if self._pid is None else cpu_seconds(self._pid)


def cpu_seconds(pid: int) -> float:
    """CPU seconds of another process's threads; 0 where the system does not tell."""
    used = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            used += int(path.read_text().split()[0])
        except (OSError, ValueError, IndexError):  # a thread that ended meanwhile
            continue
    return used / 1e9


def _counters(root: Path) -> list[_Counter]:
    """Counters of whole packages that may be read (`intel-rapl:0`, not its parts `...:0:1`)."""
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") != 1:
            continue
        try:
            counter = _Counter(
                folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()) + 1
            )
            counter.read()
        except (OSError, ValueError):  # root's own on most machines
            continue
        found.append(counter)
    return found

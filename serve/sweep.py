"""The settings of llama.cpp that change its speed, tried on a part of the questions.

Its fastest counts, measure by measure: what answers soonest need not write fastest. Knows nothing
of how a setting is opened.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ..agent.errors import FeatherdeskError
from ..agent.progress import track
from .child import Child
from .contender import Written
from .prompts import Prompt
from .spreads import spread

__all__ = ["MEASURES", "Setting", "Swept", "fastest", "grid", "refined", "sweep"]

MEASURES = ("whole", "first", "decode")
Open = Callable[["Setting"], AbstractContextManager[Child]]


@dataclass(frozen=True, slots=True)
class Setting:
    """How llama.cpp is set; `cache` is `off`, `prefix` or `ram` (see `peers.LlamaCpp`)."""

    lookup: bool = False
    cache: str = "prefix"
    threads: int = 1
    n_batch: int = 512
    flash_attn: bool = False

    @property
    def name(self) -> str:
        """In words."""
        parts = [
            "lookup" if self.lookup else "no lookup",
            {"off": "no cache"}.get(self.cache, f"{self.cache} cache"),
            f"{self.threads} threads",
            f"batch {self.n_batch}",
        ]
        return ", ".join([*parts, "flash attention"] if self.flash_attn else parts)


@dataclass(frozen=True, slots=True)
class Swept:
    """A setting with medians in ms and its rate of decoding; `failed` says why there are none."""

    setting: Setting
    first_ms: float = 0.0
    whole_ms: float = 0.0
    decode: float = 0.0
    failed: str = ""


def grid(cores: int) -> list[Setting]:
    """Lookup, cache and threads in all combinations."""
    counts = sorted({*range(1, min(cores, 4) + 1), *(n for n in (8, 16, 32) if n < cores), cores})
    return [
        Setting(lookup, cache, threads)
        for threads in reversed(counts)
        for lookup in (False, True)
        for cache in ("prefix", "off", "ram")
    ]


def refined(best: Sequence[Setting]) -> list[Setting]:
    """Other batches, and flash attention, for the best so far."""
    return [
        changed
        for setting in dict.fromkeys(best)
        for changed in (
            replace(setting, n_batch=128),
            replace(setting, n_batch=2048),
            replace(setting, flash_attn=True),
        )
    ]


def sweep(
    settings: Sequence[Setting],
    prompts: Sequence[Prompt],
    enter: Open,
    *,
    warm: Prompt | None = None,
    what: str = "settings",
) -> list[Swept]:
    """Try settings one after the other, there on one half of the prompts and back on the other,
    so that a machine that grows slower does not judge between them. `warm` is asked first and not
    counted. A setting that fails is told.

    Raises:
        FeatherdeskError: all of them fail.
    """
    there = prompts[: (len(prompts) + 1) // 2]
    back = prompts[len(there) :] or there
    found: dict[Setting, list[Written]] = {one: [] for one in settings}
    failed: dict[Setting, str] = {}
    rounds = [*((one, there) for one in settings), *((one, back) for one in reversed(settings))]
    for setting, asked in track(rounds, f"{what} of the peer"):
        if setting in failed:
            continue
        try:
            with enter(setting) as child:
                if warm is not None:
                    child.write(warm)
                found[setting] += [child.write(prompt) for prompt in asked]
        except FeatherdeskError as error:
            failed[setting] = str(error)
    if len(failed) == len(found):
        raise FeatherdeskError(next(iter(failed.values())))
    return [_swept(one, written, failed.get(one, "")) for one, written in found.items()]


def _swept(setting: Setting, written: Sequence[Written], failed: str) -> Swept:
    if failed or not written:
        return Swept(setting, failed=failed)
    behind = [one for one in written if one.tokens > 1]
    tokens = sum(one.tokens - 1 for one in behind)
    seconds = sum(one.whole - one.first for one in behind)
    return Swept(
        setting,
        spread([1000 * one.first for one in written]).median,
        spread([1000 * one.whole for one in written]).median,
        round(tokens / seconds, 1) if seconds > 0 else 0.0,
    )


def fastest(swept: Sequence[Swept]) -> dict[str, Setting]:
    """The best setting for whole answers, for the first token and for decoding."""
    good = [one for one in swept if not one.failed]
    return {
        "whole": min(good, key=lambda one: one.whole_ms).setting,
        "first": min(good, key=lambda one: one.first_ms).setting,
        "decode": max(good, key=lambda one: one.decode).setting,
    }

"""Plans a compression: tries many candidates a little, the better ones longer, and picks one.

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943; Hyperband, arXiv 1603.06560): each
rung has an equal share of the time, a third of the candidates goes on to the next. Size and speed
are known as soon as a candidate is exported, only its answers need healing. Knows nothing of how
a candidate is made; that is the measurer's.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..agent.errors import ConfigError, FeatherdeskError
from .candidate import UNCOMPRESSED, Budget, Candidate, Trial
from .pareto import front

__all__ = [
    "Journal",
    "Measurer",
    "Plan",
    "Skipped",
    "candidates",
    "choose",
    "plan",
]

ETA = 3
RUNGS = 3
_SAFETY = 1.25
_MARGIN = 2.0
"""Points of correct answers that a candidate may lose against the uncompressed model."""
_NO_TIME = "not begun: no time"
_NOT_HEALED = "not healed further: no time"
_CHANNELS = 0.667
"""The share of the channels that stays where they are cut."""
_RANKING = 1 / 6
"""The share of the time in which layers are ranked."""
_EQUAL = 0.03
"""The share by which speeds must differ to be told apart."""


class Measurer(Protocol):
    """Makes a candidate and measures it."""

    def prepare(self, seconds: float) -> float:
        """Find out what candidates share, within about so many seconds, once; returns the seconds
        that it took, now or in an interrupted run."""
        ...

    def measure(self, candidate: Candidate, rung: int, minutes: float) -> Trial:
        """Heal the candidate for `minutes` more than in the rung before (0: not), and measure."""
        ...

    def drop(self, candidate: Candidate) -> None:
        """The candidate will not come back: what was kept to heal on may go."""
        ...


class Journal(Protocol):
    """Trials that were finished, now or in an interrupted run."""

    def known(self) -> Mapping[tuple[str, int], Trial]:
        """By candidate key and rung."""
        ...

    def add(self, trial: Trial) -> None:
        """Keep one, for good."""
        ...


@dataclass(frozen=True, slots=True)
class Skipped:
    """A candidate that was not measured, or not healed on, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What was tried and chosen. `pick` is None where nothing fits; `skipped` was not tried, or not
    to the end."""

    budget: Budget
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    pick: Trial | None
    reason: str
    skipped: tuple[Skipped, ...] = ()


def candidates(layers: int, vocabulary: int, cores: int) -> list[Candidate]:
    """What to try for a model of so many layers and tokens, extremes first.

    A grid of pruning levels in int4, and the other weights, block sizes and threads unpruned. All
    of the grid cut the vocabulary, which costs least, and are healed for blocks of 64.
    """
    removed = sorted({min(layers - 1, round(layers * share)) for share in (0, 1 / 8, 1 / 4)})
    kept = [size for size in (12288, 8192) if size < vocabulary] or [0]
    grid = [
        Candidate(n, size, block_size=64, channels=share)
        for n in removed
        for share in (_CHANNELS, 0.0)
        for size in kept
    ]
    grid = [one for one in grid if one.pruned]
    others = [Candidate(precision="int8"), *(Candidate(block_size=n) for n in (16, 64, 128))]
    others += [Candidate(threads=n) for n in range(1, cores) if n in {1, cores // 2}]
    middle_out = sorted(grid, key=lambda one: abs(one.layers - layers / 8))
    return list(dict.fromkeys([UNCOMPRESSED, Candidate(), _smallest(grid), *middle_out, *others]))


def plan(
    wanted: Sequence[Candidate],
    measurer: Measurer,
    budget: Budget,
    journal: Journal,
    notify: Callable[[str, float], None] = lambda _what, _share: None,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Try candidates within the time of the budget and pick one.

    `notify` hears what is being tried and the share of the time that is gone. Trials of the
    journal are not made again, and their seconds count as spent.

    Raises:
        ConfigError: not even the smallest candidate is small enough.
        FeatherdeskError: no candidate can be made.
    """
    run = _Run(measurer, budget, journal, notify, clock, _smallest(wanted))
    alive = list(wanted)
    for rung in range(RUNGS):
        told = run.rung(alive, rung, RUNGS - rung)
        alive = _promoted(told, budget, measurer, last=rung == RUNGS - 1)
        if not any(one.pruned for one in alive):
            break
    latest = run.latest()
    failed = [one.reason for one in run.skipped if one.reason not in (_NO_TIME, _NOT_HEALED)]
    if failed and not latest:
        raise FeatherdeskError(f"plan: no candidate can be made: {failed[0]}")
    best = [latest[place] for place in front([t.costs for t in latest]) if latest[place].result]
    pick, reason = choose(latest, budget)
    return Plan(budget, tuple(latest), tuple(best), pick, reason, tuple(run.skipped))


@dataclass
class _Run:
    """The clock, the journal and what is known of how long things take."""

    measurer: Measurer
    budget: Budget
    journal: Journal
    notify: Callable[[str, float], None]
    clock: Callable[[], float]
    smallest: Candidate
    skipped: list[Skipped] = field(default_factory=list)
    ranked: bool = False

    def __post_init__(self) -> None:
        self.done = dict(self.journal.known())
        self.total = self.budget.minutes * 60
        spent = sum(trial.seconds for trial in self.done.values())
        self.end = self.clock() + self.total - spent

    def left(self) -> float:
        """Seconds until the time is over."""
        return self.end - self.clock()

    def rung(self, alive: Sequence[Candidate], number: int, rungs: int) -> list[Trial]:
        """Measure what fits into this rung's share of the time that is left."""
        stop = self.left() * (1 - 1 / rungs)
        open_ends = [one for one in alive if (one.key, number) not in self.done]
        minutes = self._healing(open_ends, number, self.left() - stop)
        told = []
        for one in alive:
            known = self.done.get((one.key, number))
            if known is None and one.layers and not self.ranked and self.left() > stop:
                self._rank()
                stop = self.left() * (1 - 1 / rungs)
            if known is None and (one.pruned or number == 0):
                known = self._tried(one, number, minutes if one.pruned else 0.0, stop)
            if known is not None:
                told.append(known)
                self._check_smallest(known)
        return told

    def _rank(self) -> None:
        """Layers in their order: what it takes is no rung's, for it is done once."""
        self.ranked, began = True, self.clock()
        self.notify("which layers matter least", 1 - self.left() / self.total)
        took = self.measurer.prepare(self.left() * _RANKING)
        self.end -= max(0.0, took - (self.clock() - began))

    def _healing(self, alive: Sequence[Candidate], number: int, share: float) -> float:
        """Minutes of healing for each, so that all fit."""
        healed = [one for one in alive if one.pruned]
        if number == 0 or not healed:
            return 0.0
        return max(0.0, (share / len(healed) - self._overhead(healed[0], healed=True)) / 60)

    def _tried(self, one: Candidate, number: int, minutes: float, stop: float) -> Trial | None:
        needed = minutes * 60 + self._overhead(one, healed=minutes > 0)
        if self.left() - needed < stop or (number and minutes <= 0):
            self.skipped.append(Skipped(one, _NO_TIME if number == 0 else _NOT_HEALED))
            return None
        what = f"{one.key}, healed {minutes:.1f} min" if minutes else one.key
        self.notify(what, 1 - self.left() / self.total)
        try:
            trial = self.measurer.measure(one, number, minutes)
        except FeatherdeskError as error:  # of this candidate alone: others may do
            self.skipped.append(Skipped(one, str(error)))
            self.measurer.drop(one)
            return None
        self.done[one.key, number] = trial
        self.journal.add(trial)
        return trial

    def _overhead(self, one: Candidate, *, healed: bool) -> float:
        """Seconds a trial takes beside healing: as seen of its own kind, if there is one.

        A healed candidate is asked more questions, and its parent is loaded: half as much again.
        """
        for alike, factor in (
            (lambda t: (t.healed_s > 0) == healed and t.candidate.precision == one.precision, 1.0),
            (lambda t: t.candidate.precision == one.precision, 1.5 if healed else 1.0),
            (lambda _: True, 1.5 if healed else 1.0),
        ):
            seen = [t.seconds - t.healed_s for t in self.done.values() if alike(t)]
            if seen:
                return _SAFETY * factor * statistics.median(seen)
        return 0.0

    def _check_smallest(self, trial: Trial) -> None:
        limit = self.budget.max_mb
        if limit and trial.size_mb > limit and trial.candidate == self.smallest:
            raise ConfigError(
                f"no candidate has at most {limit:g} MB: the smallest possible "
                f"({self.smallest.key}) has {trial.size_mb:.1f} MB; ask for "
                f"--max-mb {math.ceil(trial.size_mb)} or more, or take a smaller model"
            )

    def latest(self) -> list[Trial]:
        """The last trial of each candidate."""
        found: dict[str, Trial] = {}
        for (key, _), trial in sorted(self.done.items(), key=lambda item: item[0][1]):
            found[key] = trial
        return list(found.values())


def choose(trials: Sequence[Trial], budget: Budget) -> tuple[Trial | None, str]:
    """The best of what may be offered and fits, with the reason in a sentence or two.

    Of those whose answers are within a point of the best the fastest. The uncompressed model is
    better where it fits and the pick is slower (as Olive 787 and llm-compressor 2793 tell of) or
    loses more than two points.
    """
    offered = [trial for trial in trials if trial.result]
    fitting = [trial for trial in offered if budget.fits(trial)]
    if not fitting:
        return None, _nothing_fits(offered, budget)
    best = max(trial.correct for trial in fitting)
    close = [trial for trial in fitting if trial.correct >= best - 0.01]
    pick = max(close, key=lambda trial: (trial.rate, -trial.size_mb))
    base = next((t for t in trials if t.candidate == UNCOMPRESSED), None)
    if base is None or base is pick:
        return pick, "the uncompressed model is better: " + _told(pick) if base else _told(pick)
    lost = 100 * (base.correct - pick.correct)
    if not budget.fits(base):
        warning = f"; it loses {lost:.1f} points, so let the gate decide" if lost > _MARGIN else ""
        return pick, f"{_told(pick)}; the uncompressed model does not fit{warning}"
    if lost > _MARGIN:
        return (
            base,
            f"the uncompressed model is better: {pick.candidate.key} loses {lost:.1f} points",
        )
    if _slower(pick, base):
        return base, (
            f"the uncompressed model is better: {pick.candidate.key} is compressed but slower here "
            f"({pick.rate:.0f} characters/s and {pick.first_ms:.0f} ms to the first token, against "
            f"{base.rate:.0f} and {base.first_ms:.0f})"
        )
    return pick, f"{_told(pick)}; the uncompressed model has {_told(base)}"


def _slower(pick: Trial, base: Trial) -> bool:
    return pick.rate < base.rate * (1 - _EQUAL) or pick.first_ms > base.first_ms * (1 + _EQUAL)


def _nothing_fits(offered: Sequence[Trial], budget: Budget) -> str:
    if not offered:
        return "no candidate was finished in time; give more --minutes"
    small = [t for t in offered if not budget.max_mb or t.size_mb <= budget.max_mb]
    if not small:
        least = min(offered, key=lambda trial: trial.size_mb)
        return (
            f"nothing that was healed in time has at most {budget.max_mb:g} MB; the smallest is "
            f"{_told(least)}; give more --minutes"
        )
    quick = min(small, key=lambda trial: trial.first_ms)
    return (
        f"no candidate has its first token within {budget.max_ms:g} ms with {budget.users} users "
        f"at once: the quickest is {_told(quick)}; with one user it takes {quick.alone_ms:.0f} ms"
    )


def _told(trial: Trial) -> str:
    return (
        f"{trial.candidate.key}: {trial.size_mb:.1f} MB, first token {trial.first_ms:.0f} ms, "
        f"{trial.rate:.0f} characters/s, {100 * trial.correct:.1f} % correct"
    )


def _smallest(wanted: Sequence[Candidate]) -> Candidate:
    return max(
        wanted,
        key=lambda c: (
            c.precision == "int4",
            c.layers,
            -(c.vocabulary or 1 << 30),
            -(c.channels or 1.0),
            c.block_size,
        ),
    )


def _promoted(
    told: Sequence[Trial], budget: Budget, measurer: Measurer, *, last: bool
) -> list[Candidate]:
    """The better third of the pruned candidates; the others are dropped.

    First what fits, then what nothing beats in everything; of those the best answers, told by
    their surprise as long as nothing is healed.
    """
    pruned = [trial for trial in told if trial.candidate.pruned]
    if last or not pruned:
        for trial in pruned:
            measurer.drop(trial.candidate)
        return []
    costs = [(*t.costs[:-1], -t.correct if t.healing else 0.0, t.surprise) for t in pruned]
    best = set(front(costs))

    def rank(place: int) -> tuple[bool, bool, float, float]:
        trial = pruned[place]
        answers = -trial.correct if trial.healing else 0.0
        return (not budget.fits(trial), place not in best, answers, trial.surprise)

    order = sorted(range(len(pruned)), key=rank)
    count = math.ceil(len(order) / ETA)
    for place in order[count:]:
        measurer.drop(pruned[place].candidate)
    return [pruned[place].candidate for place in order[:count]]

"""Medians with their extremes, and ratios of the same questions with an interval.

Knows nothing of what was measured.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ratio", "Spread", "ratio", "ratio_of_sums", "spread", "told"]

Floats = NDArray[np.float64]
_DRAWS = 2000
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Spread:
    """Median with minimum and maximum of a measure, and of how many; zeros of none."""

    median: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as much, with its 95 % bootstrap interval over `of` questions."""

    value: float
    low: float
    high: float
    of: int


def spread(values: Sequence[float], digits: int = 2) -> Spread:
    """Median, minimum and maximum, rounded."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0)
    middle, low, high = (
        round(float(one), digits) for one in (statistics.median(values), min(values), max(values))
    )
    return Spread(middle, low, high, len(values))


def ratio(above: Mapping[str, float], below: Mapping[str, float]) -> Ratio | None:
    """The median of `above` over `below`, question by question; None where they share none.

    The interval is a percentile bootstrap over questions (2,000 resamples, seed 0).
    """
    pairs = _pairs(above, below)
    if not len(pairs):
        return None
    quotients = pairs[:, 0] / pairs[:, 1]
    drawn = np.median(quotients[_drawn(len(pairs))], axis=1)
    return _ratio(float(np.median(quotients)), drawn, len(pairs))


def ratio_of_sums(
    above: Mapping[str, tuple[float, float]], below: Mapping[str, tuple[float, float]]
) -> Ratio | None:
    """How two rates stand to each other; a rate is the sum of amounts over that of seconds.

    Takes (amount, seconds) of each question; the interval as in `ratio`.
    """
    shared = [name for name in above if name in below]
    if not shared:
        return None
    one, other = (np.array([side[name] for name in shared], float) for side in (above, below))
    base = float(_rates(other))
    if base <= 0:
        return None
    picked = _drawn(len(shared))
    drawn = _rates(one[picked]) / np.maximum(_rates(other[picked]), _TINY)
    return _ratio(float(_rates(one)) / base, drawn, len(shared))


def _rates(values: Floats) -> Floats:
    """Amounts over seconds, summed over questions; values (..., questions, 2)."""
    sums = values.sum(axis=-2)
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], _TINY))


def _pairs(above: Mapping[str, float], below: Mapping[str, float]) -> Floats:
    found = [(above[name], below[name]) for name in above if below.get(name, 0.0) > 0]
    return np.array(found, float).reshape(-1, 2)


def _drawn(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (_DRAWS, count))


def _ratio(value: float, drawn: Floats, of: int) -> Ratio:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Ratio(round(value, 3), round(float(low), 3), round(float(high), 3), of)


def told(one: Ratio | None) -> str:
    """A ratio in words."""
    if one is None:
        return "not measured"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f}, {one.of} questions)"

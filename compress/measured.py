"""What was measured of a generator folder: medians, and how two measurements stand to each other.

Knows nothing of how it was measured.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..agent.errors import ConfigError
from .answers import Quality
from .probe import Timed

__all__ = ["Crowd", "Measured", "Spread", "figure", "ratio", "spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median with minimum and maximum of a measure, and of how many."""

    median: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """`users` who ask at the same moment; rates are of all together, a second.

    `first_token_ms` holds the wait for others, whose prompts are read in the same steps.
    """

    users: int
    first_token_ms: Spread
    prefill: Spread
    decode: Spread
    characters: Spread


@dataclass(frozen=True, slots=True)
class Measured:
    """One generator folder. Sizes and memory in MB (10^6 bytes), rates a second, at one user.

    `bare_mb` is what the process held before it opened the generator. `prefill` counts prompt
    tokens up to the first token, `decode` tokens behind it, `characters` those of whole answers
    with the reading before. Vocabularies differ, so compare characters, and `nats_per_character`
    rather than `perplexity` (a token). `joules` are an answer's.
    """

    generator: str
    size_mb: float
    bare_mb: float
    resident_mb: float
    peak_mb: float
    load_s: float
    first_token_ms: Spread
    prefill: Spread
    decode: Spread
    characters: Spread
    crowd: Crowd | None
    quality: Quality
    perplexity: float
    nats_per_character: float
    joules: Spread
    energy: str
    questions: int
    threads: int
    seconds: float
    command: str
    timed: tuple[Timed, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Measured":
        """From what `asdict` made of one.

        Raises:
            TypeError, KeyError: it is something else.
        """
        given = dict(told)
        for name in ("first_token_ms", "prefill", "decode", "characters", "joules"):
            given[name] = Spread(**given[name])
        if given["crowd"] is not None:
            crowd = dict(given["crowd"])
            users = crowd.pop("users")
            given["crowd"] = Crowd(users, **{name: Spread(**one) for name, one in crowd.items()})
        given["quality"] = Quality(**given["quality"])
        given["timed"] = tuple(Timed(**one) for one in given["timed"])
        return cls(**given)


def ratio(measured: Measured, base: Measured, name: str) -> Spread:
    """How `first` (seconds to the first token), `whole` or `rate` (characters a second) of each
    question stand to those of `base`; only for measurements of one run.

    Raises:
        ConfigError: they share no question.
    """
    before = {one.id: figure(one, name) for one in base.timed}
    found = [
        figure(one, name) / before[one.id] for one in measured.timed if before.get(one.id, 0) > 0
    ]
    if not found:
        raise ConfigError("the two measurements share no question; measure them in one run")
    return spread(found, 4)


def spread(values: Sequence[float], digits: int = 2) -> Spread:
    """Median, minimum and maximum, rounded; zeros where there is nothing."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0)
    low, middle, high = (
        round(value, digits) for value in (min(values), statistics.median(values), max(values))
    )
    return Spread(middle, low, high, len(values))


def figure(one: Timed, name: str) -> float:
    """`first` or `whole` seconds of an answer, or its `rate` of characters a second."""
    told = {"first": one.first, "whole": one.whole, "rate": len(one.text) / max(one.whole, 1e-9)}
    return told[name]

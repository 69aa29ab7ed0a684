"""What a run of `bench` found, as one value that is ready for JSON, and what the bars say of it.

No text of a question or an answer stands in it. Knows nothing of how anything was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .crowd import Crowd
from .machine import Machine
from .race import Figures
from .spreads import Ratio, Spread
from .sweep import Swept

__all__ = [
    "ENOUGH",
    "LLAMA",
    "Bar",
    "Compared",
    "Crowds",
    "Floor",
    "Outcome",
    "Start",
    "judged",
    "wanted",
]

ENOUGH = 100
"""Questions that a claim needs."""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds until /readyz and until the page, memory in MB two seconds later; of so many starts,
    with the page and (`api_`) without it. What was read from disk before may be cached."""

    ready_s: Spread
    page_s: Spread
    rest_mb: Spread
    api_ready_s: Spread
    api_rest_mb: Spread


@dataclass(frozen=True, slots=True)
class Compared:
    """How many times faster `ours` is than `theirs`, the fastest of its `group` by this measure:
    over all questions, and over those that both answered with the same text. Of first tokens also
    over those whose entries our runtime found all stored (`stored`), and over the others (`read`).
    """

    measure: str
    ours: str
    group: str
    theirs: str
    all: Ratio | None
    equal: Ratio | None
    stored: Ratio | None = None
    read: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Crowds:
    """Rounds of users at once, ours and the peer's in turn; `times` are the peer's answers a
    second as a share of ours. `ceiling` is 1000 / (`fed` tokens an answer x `best_ms` a token)
    answers a second, `share` what of it was reached."""

    users: int
    ours: tuple[Crowd, ...]
    peer: tuple[Crowd, ...] = ()
    peer_name: str = ""
    answers_a_second: Spread | None = None
    times: Spread | None = None
    fed: float = 0.0
    best_ms: float = 0.0
    ceiling: float = 0.0
    share: float = 0.0
    mb_a_user: float = 0.0


@dataclass(frozen=True, slots=True)
class Floor:
    """What the machine allows a token: bytes of the generator over those that the device's memory
    moves a second, and what steps of so many tokens took (`pace_ms`)."""

    generator_mb: float
    memory_gb_a_second: float
    token_ms: float
    pace_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with what was reached; `verdict` is `met`, `missed`, `within noise` (the interval holds
    the bar) or `too few questions`."""

    name: str
    bar: str
    reached: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run; `stopped` says why it ended early, `answers` holds figures without texts.

    `compressed`: the peers run the whole model, ours is another one with fewer weights.
    """

    bot: str
    command: str
    created: str
    device: str
    threads: int
    machine: Machine
    asked: int
    counted: int
    left_out: Mapping[str, int]
    stopped: str = ""
    energy: str = ""
    start: Start | None = None
    sides: tuple[Figures, ...] = ()
    ratios: tuple[Compared, ...] = ()
    sweep: tuple[Swept, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    crowds: Crowds | None = None
    floor: Floor | None = None
    notes: tuple[str, ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()
    compressed: bool = False
    schema: int = 1

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What the run says of every bar that it measured."""
        return tuple(judged(self))


def judged(run: Outcome) -> list[Bar]:
    """The bars, as far as they were measured."""
    return [*_ratios(run), *_start(run.start), *_crowd(run.crowds)]


LLAMA = "llama.cpp"
_NAMES = {"whole": "whole answer", "first": "first token", "decode": "decode"}
_OURS = {"whole": ("served", "runtime"), "first": ("served", "runtime"), "decode": ("runtime",)}


def wanted(run: Outcome) -> dict[str, float]:
    """How many times llama.cpp's speed is wanted, by measure; a first token has a bar where the
    entries were stored, and is reported apart where they were not."""
    stored = any(side.hits for side in run.sides)
    first = {"first": 6.0} if stored else {}
    return {"whole": 5.0 if run.compressed else 3.0, **first, "decode": 1.5}


def _ratios(run: Outcome) -> list[Bar]:
    found = []
    for one in run.ratios:
        if one.group != LLAMA or one.ours not in _OURS.get(one.measure, ()) or one.all is None:
            continue
        value, bar = one.stored or one.all, wanted(run).get(one.measure)
        where = " (entries stored)" if one.stored else ""
        found.append(
            Bar(
                f"{_NAMES[one.measure]}{where}, {one.ours} against llama.cpp",
                f"at least {bar:g} times as fast" if bar else "none: no entries were stored",
                f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})",
                _verdict(value, bar) if bar else "not judged",
            )
        )
    return found


def _verdict(value: Ratio, bar: float) -> str:
    if value.of < ENOUGH:
        return f"too few questions ({value.of} of {ENOUGH})"
    if value.low >= bar:
        return "met"
    return "missed" if value.high < bar else "within noise"


def _start(start: Start | None) -> list[Bar]:
    if start is None:
        return []
    rows = (
        ("API ready", start.ready_s if start.ready_s.of else start.api_ready_s, 3.0, "s"),
        ("page ready", start.page_s, 8.0, "s"),
        ("at rest, API alone", start.api_rest_mb, 450.0, "MB"),
        ("at rest, with the page", start.rest_mb, 650.0, "MB"),
    )
    return [
        _most(name, value.median, most, unit, f", {value.low:g} to {value.high:g}")
        for name, value, most, unit in rows
        if value.of
    ]


def _most(name: str, value: float, most: float, unit: str, more: str = "") -> Bar:
    verdict = "met" if value <= most else "missed"
    return Bar(name, f"at most {most:g} {unit}", f"{round(value, 2):g} {unit}{more}", verdict)


def _crowd(crowds: Crowds | None) -> list[Bar]:
    if crowds is None:
        return []
    users = f"{crowds.users} users"
    found = []
    if crowds.ceiling:
        verdict = "met" if crowds.share >= 0.8 else "missed"
        reached = f"{100 * crowds.share:.0f} %"
        found.append(Bar(f"{users}: share of the ceiling", "at least 80 %", reached, verdict))
    if crowds.times is not None:
        verdict = "met" if crowds.times.low >= 3 else "missed"
        verdict = "within noise" if crowds.times.low < 3 <= crowds.times.high else verdict
        times = crowds.times
        reached = f"{times.median:.2f} ({times.low:.2f} to {times.high:.2f})"
        found.append(
            Bar(f"{users}: answers a second", "at least 3 times llama.cpp's", reached, verdict)
        )
    slow = max(one.p95_ms / max(one.p50_ms, 1e-9) for one in crowds.ours)
    verdict = "met" if slow <= 3 else "missed"
    found.append(Bar(f"{users}: p95 wait", "at most 3 times the median", f"{slow:.2f}", verdict))
    wrong = sum(sum((one.errors or {}).values()) for one in crowds.ours)
    wrong += sum(one.busy_without_retry_after for one in crowds.ours)
    verdict = "missed" if wrong else "met"
    found.append(Bar(f"{users}: errors", "none but 503 with Retry-After", str(wrong), verdict))
    flats = [one.flat for one in crowds.ours if one.flat is not None]
    if flats:
        verdict = "met" if all(flats) else "missed"
        told = "flat" if all(flats) else "grows"
        found.append(Bar(f"{users}: memory", "flat", told, verdict))
    return found

"""Several sides asked the same questions in turn, question by question, and what was seen of each.

A busy machine slows all of them alike, so ratios of one run can be trusted where its milliseconds
cannot. Knows nothing of what a side is.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..agent.energy import EnergyMeter
from ..agent.progress import track
from .child import Child
from .machine import peak_mb, resident_mb
from .prompts import Prompt
from .served import Server, ask
from .spreads import Ratio, Spread, ratio, ratio_of_sums, spread

__all__ = [
    "RATES",
    "Answer",
    "ChildSide",
    "Figures",
    "HttpSide",
    "Race",
    "Side",
    "compared",
    "figures",
]

RATES = {"decode": "writing", "behind": "behind"}
"""Measures that are rates, and the amounts and seconds they are made of."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of one side; fields as in `contender.Written` and `served.Heard`."""

    id: str
    text: str
    prompt: int
    tokens: int
    first: float
    whole: float
    steps: int = 0
    fed: int = 0
    hits: int = 0
    misses: int = 0
    opening: int = 1
    joules: float = 0.0
    author: str = "model"
    route_ms: float = 0.0
    closed: float = 0.0

    @property
    def writing(self) -> tuple[float, float] | None:
        """Tokens behind the first and the seconds they took; None where all came in one step, or
        where words were heard and not tokens."""
        if self.tokens < 2 or self.steps < 2 or self.whole <= self.first:
            return None
        return self.tokens - 1, self.whole - self.first

    @property
    def behind(self) -> tuple[float, float] | None:
        """As `writing`, without what the first step gave beside its first token."""
        told = self.writing
        return None if told is None else (self.tokens - self.opening, told[1])


class Side(Protocol):
    """Someone who answers; `kind` is `served`, `ours`, `short` or `peer`."""

    name: str
    kind: str

    @property
    def pid(self) -> int:
        """The process that answers."""
        ...

    def answer(self, prompt: Prompt) -> Answer:
        """Its answer, and how long it took."""
        ...


@dataclass(slots=True)
class HttpSide:
    """The bot as it is served."""

    name: str
    server: Server
    kind: str = "served"

    @property
    def pid(self) -> int:
        """The server's."""
        return self.server.pid

    def answer(self, prompt: Prompt) -> Answer:
        """Asked over HTTP."""
        heard = ask(self.server.url, prompt.question, prompt.history)
        author = heard.author if heard.route == "answer" else heard.route
        return Answer(
            prompt.id,
            heard.text,
            heard.prompt,
            heard.tokens,
            heard.first,
            heard.whole,
            author=author,
            route_ms=heard.route_ms,
            closed=heard.closed,
        )


@dataclass(slots=True)
class ChildSide:
    """A contender in a child process; `change` makes its prompt of the one of all."""

    name: str
    kind: str
    child: Child
    change: Callable[[Prompt], Prompt] = lambda prompt: prompt

    @property
    def pid(self) -> int:
        """The child's."""
        return self.child.pid

    def answer(self, prompt: Prompt) -> Answer:
        """Asked over a pipe; times are the child's own."""
        changed = self.change(prompt)
        told = self.child.write(changed)
        return Answer(
            prompt.id,
            told.text,
            len(changed.ids),
            told.tokens,
            told.first,
            told.whole,
            told.steps,
            told.fed,
            told.hits,
            told.misses,
            told.opening,
            closed=told.whole,
        )


@dataclass(slots=True)
class Race:
    """What was seen so far: answers by side, one of each side for every question in `done`."""

    sides: Sequence[Side]
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    energy: str = ""

    def run(self, prompts: Sequence[Prompt], warm: Prompt | None = None) -> None:
        """Ask everything of every side before the next question, in an order drawn anew for each:
        none always follows the same other, whose threads may still be at work.

        `warm` is asked first and not counted. What was not asked of all when it ends early is
        left out.
        """
        self.answers = {side.name: [] for side in self.sides}
        if warm is not None:
            for side in self.sides:
                side.answer(warm)
        meters = {side.name: EnergyMeter(pid=side.pid) for side in self.sides}
        self.energy = next(iter(meters.values())).method
        order = random.Random(0)
        for prompt in track(prompts, "asking"):
            found = {}
            for side in order.sample(self.sides, len(self.sides)):
                meters[side.name].lap()
                answer = side.answer(prompt)
                found[side.name] = replace(answer, joules=meters[side.name].lap())
            for name, answer in found.items():
                self.answers[name].append(answer)
            self.done.append(prompt.id)

    def counted(self) -> frozenset[str]:
        """The questions whose served reply the model wrote; all, where no side is served."""
        served = [side.name for side in self.sides if side.kind == "served"]
        return frozenset(
            one.id
            for name in served or list(self.answers)[:1]
            for one in self.answers.get(name, ())
            if one.author == "model"
        )

    def of(self, name: str) -> list[Answer]:
        """The answers of a side that count."""
        counted = self.counted()
        return [one for one in self.answers.get(name, ()) if one.id in counted]


@dataclass(frozen=True, slots=True)
class Figures:
    """A side in figures: medians over questions with their extremes; rates a second.

    `decode` is (tokens - 1) / (time of the last token - time of the first), of answers whose
    tokens did not all come in one step; `decode_all` is that of their sums, `decode_behind` without
    the tokens that lookup added to the first step. `prefill` is prompt
    tokens over the time to the first, `closed_ms` the end of the stream. `equal` is the share of
    answers equal to those of our runtime, `hits` that of blocks found in the store, `stored` that
    of questions that found all of theirs.
    """

    name: str
    kind: str
    about: str
    first_ms: Spread
    whole_ms: Spread
    closed_ms: Spread
    routing_ms: Spread
    prefill: Spread
    decode: Spread
    decode_all: float
    decode_behind: float
    characters: Spread
    tokens: Spread
    prompt: Spread
    tokens_a_step: float
    fed: float
    joules: Spread
    equal: float | None
    hits: float | None
    stored: float | None
    resident_mb: float
    peak_mb: float
    open_s: float


def figures(side: Side, race: Race, texts: Mapping[str, str], about: str, open_s: float) -> Figures:
    """What was seen of a side; `texts` are our runtime's answers by question."""
    answers = race.of(side.name)
    rates = [rate for one in answers if (rate := one.writing)]
    steps, blocks = sum(one.steps for one in answers), sum(one.hits + one.misses for one in answers)
    stepped = sum(one.tokens + 1 for one in answers if one.steps)
    looked = [one.misses == 0 for one in answers if one.hits or one.misses]
    same = [one.text == texts[one.id] for one in answers if one.id in texts]
    pid = side.pid
    return Figures(
        name=side.name,
        kind=side.kind,
        about=about,
        first_ms=spread([1000 * one.first for one in answers]),
        whole_ms=spread([1000 * one.whole for one in answers]),
        closed_ms=spread([1000 * one.closed for one in answers]),
        routing_ms=spread([one.route_ms for one in answers if one.route_ms]),
        prefill=spread([one.prompt / max(one.first, 1e-9) for one in answers], 1),
        decode=spread([tokens / seconds for tokens, seconds in rates], 1),
        decode_all=_rate(rates),
        decode_behind=_rate([rate for one in answers if (rate := one.behind)]),
        characters=spread([len(one.text) / max(one.whole, 1e-9) for one in answers], 1),
        tokens=spread([one.tokens for one in answers], 1),
        prompt=spread([one.prompt for one in answers], 1),
        tokens_a_step=round(stepped / steps, 3) if steps else 0.0,
        fed=round(sum(one.fed for one in answers) / len(answers), 1) if answers else 0.0,
        joules=spread([one.joules for one in answers], 3),
        equal=round(sum(same) / len(same), 4) if same else None,
        hits=round(sum(one.hits for one in answers) / blocks, 4) if blocks else None,
        stored=round(sum(looked) / len(looked), 4) if looked else None,
        resident_mb=resident_mb(pid),
        peak_mb=peak_mb(pid),
        open_s=open_s,
    )


def compared(
    race: Race,
    peer: str,
    ours: str,
    measure: str,
    *,
    equal: bool = False,
    only: Collection[str] | None = None,
) -> Ratio | None:
    """How many times the peer's `first` or `whole` is ours, or our rate the peer's (`decode`, and
    `behind` the first step).

    With `equal` only questions count that both answered with the same text, with `only` those.
    """
    theirs, own = ({one.id: one for one in race.of(name)} for name in (peer, ours))
    shared = [
        name
        for name in own
        if name in theirs
        and (not equal or own[name].text == theirs[name].text)
        and (only is None or name in only)
    ]
    if measure in RATES:
        rates = [
            {name: rate for name in shared if (rate := getattr(side[name], RATES[measure]))}
            for side in (own, theirs)
        ]
        return ratio_of_sums(rates[0], rates[1])
    times = [{name: getattr(side[name], measure) for name in shared} for side in (theirs, own)]
    return ratio(times[0], times[1])


def _rate(amounts: Sequence[tuple[float, float]]) -> float:
    return round(sum(n for n, _ in amounts) / max(sum(s for _, s in amounts), 1e-9), 1)

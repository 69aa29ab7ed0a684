"""The ordered run behind `bench`: starts, race, users, floor; each as far as it was asked for.

What was found stays when a later part fails or is interrupted. Knows nothing of how it is shown.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..agent.artifacts import Manifest
from ..agent.errors import ConfigError, FeatherdeskError
from ..agent.prefill import FOLDER
from ..agent.progress import track
from .crowd import Crowd, crowd, queue
from .machine import Machine, machine, needs_cuda, resident_mb
from .opponents import Opponents
from .outcome import LLAMA, Compared, Crowds, Floor, Outcome, Start
from .prompts import Gathered, gather, needs_generator, shorter
from .race import RATES, ChildSide, Figures, HttpSide, Race, Side, compared, figures
from .served import Server
from .spreads import spread
from .wanted import Wanted

__all__ = ["Measurement"]

RUNTIME = "runtime"
_PLAIN = "runtime, no lookup"
_OURS = {
    RUNTIME: (True, True),
    "runtime, no stored blocks": (False, True),
    _PLAIN: (True, False),
    "runtime, neither": (False, False),
}
"""Our rows without HTTP, and whether each has stored blocks and lookup."""

_SHORT = "runtime, short prompt"
_REST = 2.0
_ROUNDS = 3
_PACE = (1, 2, 4, 8, 16, 32, 64, 128)
_PAGE = b'"page":true'


@dataclass(slots=True)
class Measurement:
    """A run, and what it found so far."""

    wanted: Wanted
    machine: Machine = field(default_factory=machine)
    gathered: Gathered = field(default_factory=lambda: Gathered((), {}))
    start: Start | None = None
    opponents: Opponents | None = None
    race: Race = field(default_factory=lambda: Race(()))
    sides: tuple[Figures, ...] = ()
    crowds: Crowds | None = None
    floor: Floor | None = None
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Measure everything that is wanted, in order.

        Raises:
            FeatherdeskError: the bot, a peer or a file cannot be used, or there is no such device.
        """
        wanted = self.wanted
        manifest = Manifest.load(wanted.bot)
        needs_generator(wanted.bot, manifest)
        self._check()
        self.opponents = Opponents(wanted, manifest, self.machine.units)
        self.opponents.check()
        self.gathered = gather(wanted.bot, wanted.questions, wanted.limit)
        self.opponents.fit(self.gathered.prompts)
        self._starts()
        with ExitStack() as stack:
            peers = self.opponents.sides(stack, self.gathered)
            server = stack.enter_context(wanted.served(page=wanted.page))
            server.ready(_PAGE if wanted.page else b"ready")
            sides = [HttpSide("served", server), *self._ours(stack), *peers]
            self.race = Race(sides)
            try:
                self.race.run(self.gathered.prompts, self.gathered.warm)
            finally:
                self._seen(sides)
            self._users(server, sides)
            self._floor(sides)

    def outcome(self, stopped: str = "") -> Outcome:
        """What was found so far."""
        wanted, opponents = self.wanted, self.opponents
        return Outcome(
            bot=opponents.manifest.name if opponents else str(wanted.bot),
            command=wanted.command,
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            device=wanted.device,
            threads=wanted.threads,
            machine=self.machine,
            asked=len(self.race.done),
            counted=len(self.race.counted()),
            left_out=self.gathered.left_out,
            stopped=stopped,
            energy=self.race.energy,
            start=self.start,
            sides=self.sides,
            ratios=tuple(self._ratios()),
            sweep=tuple(opponents.swept) if opponents else (),
            chosen=opponents.chosen if opponents else {},
            crowds=self.crowds,
            floor=self.floor,
            notes=(*(opponents.notes if opponents else ()), *self.notes, *self._stored()),
            answers=tuple(self._answers()),
            compressed=wanted.other_weights,
        )

    @property
    def found(self) -> bool:
        """Whether anything was measured."""
        return bool(self.start or self.race.done or (self.opponents and self.opponents.swept))

    def _check(self) -> None:
        """What can be said before anything is loaded."""
        if self.wanted.seconds and not self.wanted.users:
            raise ConfigError("--seconds is how long --users ask; give --users too")
        if self.wanted.device == "cuda":
            needs_cuda()

    def _starts(self) -> None:
        """Start the server anew a few times, with the page and without."""
        wanted = self.wanted
        found: dict[str, list[float]] = {
            name: [] for name in ("ready", "page", "rest", "api", "api_rest")
        }
        for _ in track(range(wanted.starts), "starting"):
            with wanted.served(page=False) as server:
                found["api"].append(server.ready())
                time.sleep(_REST)
                found["api_rest"].append(resident_mb(server.pid))
            if wanted.page:
                with wanted.served(page=True) as server:
                    found["ready"].append(server.ready())
                    found["page"].append(server.ready(_PAGE))
                    time.sleep(_REST)
                    found["rest"].append(resident_mb(server.pid))
            self.start = Start(*(spread(values) for values in found.values()))

    def _ours(self, stack: ExitStack) -> list[Side]:
        sides: list[Side] = []
        for name, (store, lookup) in _OURS.items():
            settings = self.wanted.ours(store=store, lookup=lookup)
            child = stack.enter_context(self.wanted.enter(name, "ours", settings))
            sides.append(ChildSide(name, "ours", child))
        settings = self.wanted.ours(store=True, lookup=True)
        child = stack.enter_context(self.wanted.enter(_SHORT, "ours", settings))
        return [*sides, ChildSide(_SHORT, "short", child, shorter)]

    def _seen(self, sides: Sequence[Side]) -> None:
        """Take figures while the processes still run: their memory is read now."""
        if not self.race.done:
            return
        texts = {one.id: one.text for one in self.race.of(RUNTIME)}
        found = []
        for side in sides:
            told = side.child.told if isinstance(side, ChildSide) else None
            about = told.info if told else "over HTTP, as a client sees it"
            found.append(figures(side, self.race, texts, about, told.load_s if told else 0.0))
        self.sides = tuple(found)

    def _ratios(self) -> list[Compared]:
        """Every side of ours against the fastest of each peer, measure by measure."""
        known = {one.name: one for one in self.sides}
        rows = []
        for group, names in (self.opponents.groups if self.opponents else {}).items():
            peers = [known[name] for name in names if name in known]
            for measure, theirs in _fastest(peers).items():
                rows += [
                    self._compared(measure, one, group, theirs)
                    for one in self.sides
                    if one.kind != "peer" and (measure not in RATES or one.kind != "served")
                ]
        return rows

    def _compared(self, measure: str, ours: Figures, group: str, theirs: str) -> Compared:
        every, same = (
            compared(self.race, theirs, ours.name, measure, equal=equal) for equal in (False, True)
        )
        if measure != "first":
            return Compared(measure, ours.name, group, theirs, every, same)
        looked = [one for one in self.race.of(RUNTIME) if one.hits or one.misses]
        stored = {one.id for one in looked if not one.misses}
        apart = (stored, {one.id for one in looked} - stored) if stored else ()
        told = [compared(self.race, theirs, ours.name, measure, only=ids) for ids in apart]
        return Compared(measure, ours.name, group, theirs, every, same, *told)

    def _answers(self) -> list[dict[str, Any]]:
        """Every answer's figures; whether its text is our runtime's, but no text."""
        ours = {one.id: one.text for one in self.race.answers.get(RUNTIME, [])}
        rows = []
        for name, answers in self.race.answers.items():
            for one in answers:
                told = asdict(one)
                same = told.pop("text") == ours.get(one.id)
                rows.append({"side": name, **told, "equal": same})
        return rows

    def _users(self, server: Server, sides: Sequence[Side]) -> None:
        """Users at once, ours and the peer's fastest in turn."""
        wanted, counted = self.wanted, self.race.counted()
        prompts = [one for one in self.gathered.prompts if one.id in counted]
        if not wanted.users:
            return
        if not prompts:
            self.notes.append("users: the model wrote none of the answers, so nothing was driven")
            return
        peer = self._peer_of_crowd(sides)
        size = max(24, 3 * wanted.users)
        ours: list[Crowd] = []
        theirs: list[Crowd] = []
        for place in track(range(1 if wanted.seconds else _ROUNDS), f"{wanted.users} users"):
            asked = [prompts[(place * size + n) % len(prompts)] for n in range(size)]
            ours.append(crowd(server, wanted.users, asked, seconds=wanted.seconds))
            if peer is not None:
                served = [peer.answer(one).whole for one in asked]
                theirs.append(queue(wanted.users, served))
            self.crowds = _crowds(wanted.users, ours, theirs, peer.name if peer else "")

    def _peer_of_crowd(self, sides: Sequence[Side]) -> Side | None:
        names = self.opponents.groups.get(LLAMA, []) if self.opponents else []
        best = _fastest([one for one in self.sides if one.name in names])
        return next((side for side in sides if side.name == best.get("whole")), None)

    def _stored(self) -> list[str]:
        """What lies beside the generator."""
        folder = self.wanted.bot / FOLDER
        if not folder.is_dir():
            return []
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        return [
            f"keys and values of entries take {size:.1f} MB on disk beside the generator; resident "
            "memory holds those that were asked for"
        ]

    def _floor(self, sides: Sequence[Side]) -> None:
        """What the machine allows, and the ceiling of users at once that follows from it."""
        runtime = next(s for s in sides if isinstance(s, ChildSide) and s.name == RUNTIME)
        pace = runtime.child.call("pace", list(_PACE))
        size = sum(path.stat().st_size for path in self.wanted.generator.iterdir()) / 1e6
        try:
            speed = self.wanted.copy_gb_a_second()
            self.floor = Floor(round(size, 1), speed, round(size / max(speed, 1e-9), 3), pace)
        except FeatherdeskError as error:
            self.notes.append(f"the floor was not measured: {error}")
        plain = next((one for one in self.sides if one.name == _PLAIN), None)
        if self.crowds is None or plain is None or not plain.fed:
            return
        best = min(told / int(length) for length, told in pace.items())
        ceiling = 1000 / (plain.fed * best)
        rate = self.crowds.answers_a_second
        self.crowds = replace(
            self.crowds,
            fed=plain.fed,
            best_ms=round(best, 6),
            ceiling=round(ceiling, 2),
            share=round(rate.median / ceiling, 6) if rate else 0.0,
        )


def _fastest(peers: Sequence[Figures]) -> dict[str, str]:
    """The names of the fastest by measure, as the whole run saw them."""
    if not peers:
        return {}
    return {
        "whole": min(peers, key=lambda one: one.whole_ms.median).name,
        "first": min(peers, key=lambda one: one.first_ms.median).name,
        "decode": max(peers, key=lambda one: one.decode_all).name,
        "behind": max(peers, key=lambda one: one.decode_behind).name,
    }


def _crowds(users: int, ours: Sequence[Crowd], theirs: Sequence[Crowd], peer: str) -> Crowds:
    pairs = zip(ours, theirs, strict=False)
    times = [one.answers_a_second / max(other.answers_a_second, 1e-9) for one, other in pairs]
    more = max(one.most_mb for one in ours) - ours[0].before_mb
    return Crowds(
        users=users,
        ours=tuple(ours),
        peer=tuple(theirs),
        peer_name=peer,
        answers_a_second=spread([one.answers_a_second for one in ours], 3),
        times=spread(times, 3) if times else None,
        mb_a_user=round(max(0.0, more) / users, 2),
    )

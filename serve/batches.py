"""Reading and writing for several texts at once, our batch beside transformers, in one run.

All sides are given the same token ids, in turn, round by round; each runs in a process of its own.
Says tokens a second, and bytes a second beside those that the device's memory moves in a copy.
Knows nothing of how a side works, nor of how the result is shown.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from ..agent.artifacts import Manifest
from ..agent.errors import FeatherdeskError
from ..agent.progress import track
from .child import Child
from .machine import Machine, machine, needs_cuda
from .opponents import Opponents
from .prompts import Prompt, gather, needs_generator
from .spreads import Ratio, Spread, ratio, spread
from .wanted import Wanted

__all__ = ["AtOnce", "Batches", "Plan", "Run"]

OURS = "runtime"
_QUESTIONS = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: so many texts at once, each with `read` tokens of prompt and `write`
    further ones, in so many rounds; `generators` are folders beside the bot's own, `backend` is
    what torch.compile compiles with."""

    batches: tuple[int, ...] = (1, 8, 32)
    read: int = 256
    write: int = 64
    rounds: int = 5
    generators: tuple[Path, ...] = ()
    backend: str = "inductor"


@dataclass(frozen=True, slots=True)
class AtOnce:
    """One side with so many texts at once; rates are tokens a second over all texts.

    `step_ms` are the rounds' median steps. `gb_a_second` are the bytes that a step has to read at
    the least (weights once, and keys and values of every text) over the median step; `share` is
    that of the device's copy. `equal` is the share of chosen tokens that are our runtime's;
    `prefill_times` and `decode_times` are the side's seconds over our runtime's.
    """

    side: str
    batch: int
    prefill: Spread
    decode: Spread
    step_ms: Spread
    gb_a_second: float
    share: float | None
    equal: float
    prefill_times: Ratio | None
    decode_times: Ratio | None


@dataclass(frozen=True, slots=True)
class Batches:
    """A whole run; `sides` tells what each is, `weights_mb` what a step of it reads of weights."""

    bot: str
    command: str
    created: str
    device: str
    threads: int
    machine: Machine
    plan: Plan
    copy_gb_a_second: float | None
    sides: dict[str, str]
    weights_mb: dict[str, float]
    found: tuple[AtOnce, ...]
    notes: tuple[str, ...]
    stopped: str = ""
    schema: int = 1


@dataclass(slots=True)
class _Side:
    """One that is measured: its process, its sizes, seconds by batch and round, what it chose."""

    name: str
    child: Child
    weights: int
    token: int
    prefill: dict[int, list[float]] = field(default_factory=dict)
    decode: dict[int, list[float]] = field(default_factory=dict)
    steps: dict[int, list[float]] = field(default_factory=dict)
    chosen: dict[int, list[int]] = field(default_factory=dict)

    def measure(self, rows: Sequence[Sequence[int]], read: int, *, counted: bool) -> None:
        """Have it read and write once."""
        told = self.child.call("batch", rows, read)
        if not counted:
            return
        batch = len(rows)
        self.prefill.setdefault(batch, []).append(told["prefill"])
        self.decode.setdefault(batch, []).append(sum(told["steps"]))
        self.steps.setdefault(batch, []).append(1000 * median(told["steps"]))
        self.chosen[batch] = [token for row in told["chosen"] for token in row]


@dataclass(slots=True)
class Run:
    """A run, and what it found so far."""

    wanted: Wanted
    plan: Plan
    machine: Machine = field(default_factory=machine)
    speed: float | None = None
    sides: list[_Side] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything was measured."""
        return bool(self.sides and self.sides[0].prefill)

    def run(self) -> None:
        """Measure everything.

        Raises:
            DeviceError: there is no such device.
            FeatherdeskError: the bot, our runtime or a folder cannot be used.
        """
        wanted = self.wanted
        manifest = Manifest.load(wanted.bot)
        needs_generator(wanted.bot, manifest)
        if wanted.device == "cuda":
            needs_cuda()
        opponents = Opponents(wanted, manifest, self.machine.units)
        opponents.check()
        prompts = gather(wanted.bot, wanted.questions, _QUESTIONS).prompts
        opponents.fit(prompts)
        self.notes += opponents.notes
        self._copy()
        with ExitStack() as stack:
            self._open(stack, opponents)
            self._measure(prompts)

    def outcome(self, stopped: str = "") -> Batches:
        """What was found so far."""
        wanted = self.wanted
        return Batches(
            bot=Manifest.load(wanted.bot).name,
            command=wanted.command,
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            device=wanted.device,
            threads=wanted.threads,
            machine=self.machine,
            plan=self.plan,
            copy_gb_a_second=self.speed,
            sides={side.name: side.child.told.info for side in self.sides},
            weights_mb={side.name: round(side.weights / 1e6, 3) for side in self.sides},
            found=tuple(
                self._figures(side, batch)
                for batch in self.plan.batches
                for side in self.sides
                if batch in side.prefill and batch in self.sides[0].prefill
            ),
            notes=tuple(self.notes),
            stopped=stopped,
        )

    def _copy(self) -> None:
        try:
            self.speed = self.wanted.copy_gb_a_second()
        except FeatherdeskError as error:
            self.notes.append(f"what the device's memory moves was not measured: {error}")

    def _open(self, stack: ExitStack, opponents: Opponents) -> None:
        wanted, most = self.wanted, max(self.plan.batches)
        graphs = (False, True) if wanted.device == "cuda" else (False,)
        folders = dict.fromkeys((wanted.generator, *self.plan.generators))
        names = Counter(folder.name for folder in folders)
        for folder in folders:
            told_as = folder.name if names[folder.name] == 1 else folder
            own = OURS if folder == wanted.generator else f"{OURS}, {told_as}"
            for replayed in graphs:
                name = f"{own}, CUDA graphs" if replayed else own
                told = {**wanted.folder(folder, wanted.threads), "rows": most, "graphs": replayed}
                self._side(stack, name, "rows", told)
        if wanted.torch:
            told = wanted.folder(opponents.torch_folder(), wanted.threads)
            told["backend"] = self.plan.backend
            self._side(stack, "transformers, eager", "torch-rows", {**told, "compiled": False})
            name = "transformers, torch.compile, static cache"
            self._side(stack, name, "torch-rows", {**told, "compiled": True})

    def _side(self, stack: ExitStack, name: str, kind: str, settings: dict[str, object]) -> None:
        child = stack.enter_context(self.wanted.enter(name, kind, settings))
        sizes = child.call("sizes")
        self.sides.append(_Side(name, child, sizes["weights"], sizes["token"]))

    def _measure(self, prompts: Sequence[Prompt]) -> None:
        """All sides in turn; who comes first changes. The first round is for warming up."""
        plan, failed = self.plan, set[tuple[str, int]]()
        texts = {batch: _texts(prompts, batch, plan.read + plan.write) for batch in plan.batches}
        rounds = [(n, batch) for n in range(plan.rounds + 1) for batch in plan.batches]
        for number, batch in track(rounds, "rounds"):
            turn = number % len(self.sides)
            for side in (*self.sides[turn:], *self.sides[:turn]):
                if (side.name, batch) in failed:
                    continue
                try:
                    side.measure(texts[batch], plan.read, counted=number > 0)
                except FeatherdeskError as error:
                    if side.name == OURS:
                        raise
                    failed.add((side.name, batch))
                    self.notes.append(f"{batch} at once: {error}")

    def _figures(self, side: _Side, batch: int) -> AtOnce:
        ours, plan = self.sides[0], self.plan
        step = spread(side.steps[batch], 3)
        past = plan.read + (plan.write + 1) / 2
        speed = (side.weights + batch * past * side.token) / max(step.median, 1e-9) / 1e6
        same = [a == b for a, b in zip(side.chosen[batch], ours.chosen[batch], strict=True)]
        return AtOnce(
            side.name,
            batch,
            spread([batch * plan.read / one for one in side.prefill[batch]], 1),
            spread([batch * plan.write / one for one in side.decode[batch]], 1),
            step,
            round(speed, 2),
            round(speed / self.speed, 4) if self.speed else None,
            round(sum(same) / len(same), 4),
            _times(side.prefill[batch], ours.prefill[batch]) if side is not ours else None,
            _times(side.decode[batch], ours.decode[batch]) if side is not ours else None,
        )


def _times(theirs: Sequence[float], ours: Sequence[float]) -> Ratio | None:
    """Round by round."""
    above, below = ({str(n): one for n, one in enumerate(side)} for side in (theirs, ours))
    return ratio(above, below)


def _texts(prompts: Sequence[Prompt], batch: int, length: int) -> list[list[int]]:
    """Texts of equal length, cut from the bot's own prompts."""
    tokens = cycle([token for prompt in prompts for token in prompt.ids])
    return [list(islice(tokens, length)) for _ in range(batch)]

"""Makes the candidates of a plan for real and measures them on this machine.

Keeps in its folder the exports of every candidate, the weights of those that may heal on, and a
journal of what was measured. Knows nothing of which candidate is tried, or for how long.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

from ..agent.artifacts import atomic_folder, place
from ..agent.plugins import load
from .activations import probes_of
from .architecture import open_model, shape_of
from .candidate import Candidate, Trial
from .channels import PruneChannels
from .distill import Heal
from .json_file import write_json
from .layers import RemoveLayers, greedy_order
from .material import shipped_material
from .measure import measure
from .steps import Step, Task, run_steps
from .vocabulary import TrimVocabulary

__all__ = ["FileJournal", "Workshop", "export_step", "pruning_of"]

_FEW, _MANY = 12, 48
"""Questions for a candidate that is not healed yet, and for all others."""
_PROBES = 3
_ORDER = "ranking.json"
_TOKENS_PER_S = 250.0
"""Of healing, until one was seen."""
_COMPILE_MINUTES = 20.0
"""Compiling takes two minutes: it pays for long healing only."""

Exporter = Callable[[Candidate], Step]


def export_step(candidate: Candidate) -> Step:
    """The step `export` with the weights of a candidate.

    Raises:
        PluginError: no such step is installed.
    """
    kind = load("featherdesk.steps", "export")
    settings: dict[str, object] = {"precision": candidate.precision}
    if candidate.precision == "int4":
        settings["block_size"] = candidate.block_size
    step: Step = kind(**settings)  # type: ignore[operator]
    return step


def pruning_of(candidate: Candidate, order: Sequence[int]) -> list[tuple[str, Step]]:
    """The steps that prune, with layers in the order in which they matter least."""
    steps: list[tuple[str, Step]] = []
    if candidate.vocabulary:
        steps.append(("vocabulary", TrimVocabulary(candidate.vocabulary)))
    if candidate.layers:
        which = tuple(sorted(order[: candidate.layers]))
        steps.append(("layers", RemoveLayers(remove=candidate.layers, which=which)))
    if candidate.channels:
        steps.append(("channels", PruneChannels(share=candidate.channels)))
    return steps


@dataclass
class Workshop:
    """A `planner.Measurer`; `users` ask at once, `threads` are the cores a candidate may use.

    All in `folder` is of one model and one material: others need a folder of their own.
    """

    folder: Path
    task: Task
    users: int
    threads: int
    most_layers: int
    exporter: Exporter = export_step
    heal: Heal = Heal()  # noqa: RUF009 - frozen
    limit: int = 96

    def prepare(self, seconds: float) -> float:
        """Rank the layers, if they are not; when the time is over, the rest by what was seen last.

        Returns the seconds that it took.
        """
        path = self.folder / _ORDER
        if not path.exists():
            began = monotonic()
            probes = probes_of(self.task.parent, self.task, _PROBES)
            model = open_model(self.task.parent)
            found = greedy_order(
                model,
                probes,
                self.most_layers,
                progress=False,
                going_on=lambda: monotonic() - began < seconds,
            )
            order = [layer for layer, _ in found]
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"order": order, "seconds": monotonic() - began})
        return float(json.loads(path.read_text())["seconds"])

    def measure(self, candidate: Candidate, rung: int, minutes: float) -> Trial:
        """Prune or heal on, export, and ask the held questions."""
        began = monotonic()
        generator = self.generator(candidate)
        healed_s = 0.0
        if candidate.pruned or not generator.exists():  # the same for any number of threads
            healed_s = self._make(candidate, rung, minutes)
        few = candidate.pruned and not minutes
        return self._trial(candidate, rung, generator, few, monotonic() - began, healed_s)

    def _make(self, candidate: Candidate, rung: int, minutes: float) -> float:
        """Write the generator of a candidate; returns seconds of healing.

        Heals on from the rung before, and not from its own of a run that was killed before its
        trial was written down: that would be more healing than the trial tells.
        """
        before = self._weights(candidate, rung - 1)
        source = before if before.exists() else self.task.parent
        steps: list[tuple[str, Step]] = []
        if source == self.task.parent:
            steps += pruning_of(candidate, self._order() if candidate.layers else ())
        if minutes:
            steps.append(("heal", self._heal(candidate, minutes)))
        steps.append(("export", self.exporter(candidate)))
        work = self.folder / "work" / f"{_made(candidate)}-{rung}"
        done = run_steps(steps, source, work, replace(self.task, scratch=work / "scratch"))
        healed = [one for one in done if one.name == "heal"]
        for one in healed:
            self._learn(one.measured, self._weights(candidate, rung), one.folder)
        target = self.generator(candidate)
        with atomic_folder(target) as fresh:
            place(done[-1].folder, fresh)
        shutil.rmtree(work, ignore_errors=True)
        return sum(one.seconds for one in healed)

    def drop(self, candidate: Candidate) -> None:
        """Remove its weights, which are large; the export stays to be looked at."""
        shutil.rmtree(self.folder / "weights" / _made(candidate), ignore_errors=True)

    def generator(self, candidate: Candidate) -> Path:
        """Where the last export of a candidate lies."""
        return self.folder / "generators" / _made(candidate)

    def order(self) -> tuple[int, ...]:
        """Layers by how little their loss changes the answers."""
        return self._order()

    def _weights(self, candidate: Candidate, rung: int) -> Path:
        return self.folder / "weights" / _made(candidate) / str(rung)

    def _learn(self, told: Mapping[str, object], weights: Path, healed: Path) -> None:
        """Keep the healed weights to heal on from, and how fast this machine heals."""
        with atomic_folder(weights) as fresh:
            place(healed, fresh)
        write_json(self.folder / "healing.json", {"rate": told["tokens_per_s"]})

    def _heal(self, candidate: Candidate, minutes: float) -> Heal:
        path = self.folder / "healing.json"
        rate = float(json.loads(path.read_text())["rate"]) if path.exists() else _TOKENS_PER_S
        int4 = candidate.precision == "int4"
        return replace(
            self.heal,
            tokens=max(1, int(rate * minutes * 60)),
            minutes=minutes,
            bits=4 if int4 else 0,
            block_size=candidate.block_size,
            compiled=minutes >= _COMPILE_MINUTES,
        )

    def _order(self) -> tuple[int, ...]:
        self.prepare(math.inf)
        return tuple(json.loads((self.folder / _ORDER).read_text())["order"])

    def _trial(
        self, one: Candidate, rung: int, generator: Path, few: bool, seconds: float, healed: float
    ) -> Trial:
        began = monotonic()
        told = measure(
            generator,
            self.task.material.held or shipped_material(200).held,
            threads=one.threads or self.threads,
            limit=self.limit,
            questions=_FEW if few else _MANY,
            users=self.users if self.users > 1 else 0,
            progress=False,
        )
        crowd = told.crowd
        return Trial(
            candidate=one,
            rung=rung,
            healing=round(healed / 60, 4),
            size_mb=told.size_mb,
            first_ms=(crowd.first_token_ms if crowd else told.first_token_ms).median,
            alone_ms=told.first_token_ms.median,
            rate=(crowd.characters if crowd else told.characters).median,
            peak_mb=told.peak_mb,
            correct=told.quality.correct,
            surprise=told.nats_per_character,
            seconds=round(seconds + monotonic() - began, 1),
            healed_s=healed,
        )


def _made(candidate: Candidate) -> str:
    """Names what is exported: threads change nothing of it."""
    return replace(candidate, threads=0).key


class FileJournal:
    """A `planner.Journal` in a JSONL file; lines of another model or load do not count."""

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity

    def known(self) -> dict[tuple[str, int], Trial]:
        """What was measured before; a line that is not whole (a run was killed) does not count."""
        found = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            try:
                told = json.loads(line)
                identity = told.pop("identity")
                told["candidate"] = Candidate(**told["candidate"])
                trial = Trial(**told)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            if identity == self._identity:
                found[trial.candidate.key, trial.rung] = trial
        return found

    def add(self, trial: Trial) -> None:
        """Append one line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"identity": self._identity, **asdict(trial)})
        cut = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + line + "\n")


def layers_of_interest(parent: Path, wanted: Sequence[Candidate]) -> int:
    """How many layers must be ranked for the candidates of a model."""
    return min(shape_of(parent).layers - 1, max((one.layers for one in wanted), default=0))

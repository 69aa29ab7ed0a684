"""The report of a compression: report.json, report.html and PNG plots from what was measured.

Text of rows that are not ours never reaches it: such rows stand with their id alone. Knows
nothing of how anything was measured.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..agent.artifacts import atomic_folder
from ..agent.errors import InputError
from .answers import Answer
from .measured import Measured
from .steps import Done

__all__ = ["Change", "RunReport", "Stage", "change_of", "load", "write_report"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a run, or a technique alone: its settings, what it told, what it then measured.

    A `kind` of `prune` was not healed. `measured` is of the export behind the step, in the
    recipe's precision; None where it was not measured. `command` does the step again.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    told: Mapping[str, Any]
    seconds: float
    measured: Measured | None = None
    command: str = ""

    @classmethod
    def of(cls, done: Done, measured: Measured | None = None, command: str = "") -> "Stage":
        """From a finished step."""
        return cls(
            done.name, done.kind, done.settings, done.measured, done.seconds, measured, command
        )


@dataclass(frozen=True, slots=True)
class Change:
    """An answer that changed: `own` says whether the row's text is ours to show."""

    id: str
    before: str
    after: str
    before_right: bool
    after_right: bool
    own: bool


@dataclass(frozen=True, slots=True)
class RunReport:
    """All that a report is drawn from; JSON-ready.

    `fp32` and `unpruned` (int4) are what the result is compared with, in the same run;
    `fetched_mb` is the file that a base model of the catalogue is fetched as, else 0. `stored_mb`
    are the keys and values of entries that the result read beforehand and keeps beside its
    generator, `stored_before_mb` those of the bot it came from. `gate` is a manifest's gate
    result. `damage` maps the name of a view (`by kind`) to the loss in points (0..100) of each of
    its rows (an entry, a kind, a layer) at each step: view, row, step. `commands` names how
    `gate`, `damage`, `changes` and `techniques` were come by.
    """

    name: str
    model: str
    recipe: str
    command: str
    machine: str
    created: str
    stages: tuple[Stage, ...]
    unpruned: Measured | None = None
    fp32: Measured | None = None
    fp32_mb: float = 0.0
    fetched_mb: float = 0.0
    stored_mb: float = 0.0
    stored_before_mb: float = 0.0
    techniques: tuple[Stage, ...] = ()
    gate: Mapping[str, Any] | None = None
    damage: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
    changes: tuple[Change, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def result(self) -> Measured | None:
        """What the last measured step left."""
        told = [stage.measured for stage in self.stages if stage.measured is not None]
        return told[-1] if told else None

    def shown(self) -> "RunReport":
        """Without any text of rows that are not ours, and without single answers."""
        return replace(
            self,
            stages=tuple(_shown(stage) for stage in self.stages),
            techniques=tuple(_shown(stage) for stage in self.techniques),
            unpruned=_aggregate(self.unpruned),
            fp32=_aggregate(self.fp32),
            changes=tuple(
                change if change.own else replace(change, before="", after="")
                for change in self.changes
            ),
        )


def change_of(before: Answer, after: Answer, *, own: bool) -> Change:
    """A pair of answers to one question, as the report shows it."""
    return Change(after.asked.id, before.text, after.text, before.right, after.right, own)


def write_report(out: Path, run: RunReport) -> None:
    """Write report.json, report.html and the plots into the folder `out`, whole or not at all.

    The page opens from disk and names no outside address; plots need matplotlib.
    """
    from .page import page
    from .plots import draw

    run = run.shown()
    with atomic_folder(out) as fresh:
        told = {"schema": SCHEMA, **asdict(run)}
        text = json.dumps(told, indent=1, ensure_ascii=False, default=str)
        (fresh / "report.json").write_text(text, encoding="utf-8")
        (fresh / "report.html").write_text(page(run), encoding="utf-8")
        draw(run, fresh)


def load(path: Path) -> RunReport:
    """A run from its report.json (or the folder it lies in), to be drawn again.

    Raises:
        InputError: it is missing, damaged or of another version.
    """
    path = path / "report.json" if path.is_dir() else path
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("schema", None) != SCHEMA:
            raise InputError(path, "is the report of another version; compress anew")
        for name in ("stages", "techniques"):
            told[name] = tuple(_stage(one) for one in told[name])
        for name in ("unpruned", "fp32"):
            told[name] = Measured.of(told[name]) if told[name] else None
        told["changes"] = tuple(Change(**one) for one in told["changes"])
        told["notes"] = tuple(told["notes"])
        return RunReport(**told)
    except OSError:
        raise InputError(path, "no report there; `featherdesk compress` writes one") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(path, f"is no report ({error}); compress anew") from None


def _stage(told: Mapping[str, Any]) -> Stage:
    measured = Measured.of(told["measured"]) if told["measured"] else None
    return Stage(**{**told, "measured": measured})


def _shown(stage: Stage) -> Stage:
    return replace(stage, measured=_aggregate(stage.measured))


def _aggregate(measured: Measured | None) -> Measured | None:
    return replace(measured, timed=()) if measured else None


def columns(run: RunReport) -> Sequence[tuple[str, Measured]]:
    """What stands side by side: fp32, the unpruned int4 export, then each measured step."""
    first = [("fp32", run.fp32), ("int4, unpruned", run.unpruned)]
    steps = [(stage.name, stage.measured) for stage in run.stages]
    return [(name, told) for name, told in (*first, *steps) if told is not None]

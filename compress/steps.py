"""The ordered run: each step a folder in, a folder out, kept until the whole run has ended.

A step is a frozen dataclass whose fields are its settings in a recipe, found by the entry-point
group `featherdesk.steps`. A step that was finished is not run again; one that was interrupted
leaves nothing that loads. Knows nothing of what the steps do.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from ..agent.artifacts import atomic_folder, sha256_of
from ..agent.errors import FeatherdeskError
from ..agent.resources import out_of_memory
from ..agent.swap import clear
from .material import Material

__all__ = ["Done", "Kind", "Notify", "Step", "Task", "check_fit", "identity_of", "run_steps"]

Notify = Callable[[str], None]
Kind = str
"""What a step does to a model: `prune` (needs healing), `heal`, `shape` (loses nothing that
healing brings back), `export` (leaves an artefact: nothing follows it)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all steps of a run share; `scratch` outlives an interruption (checkpoints)."""

    parent: Path
    material: Material
    scratch: Path
    notify: Notify = lambda _: None
    seed: int = 7
    progress: bool = True


@runtime_checkable
class Step(Protocol):
    """One step; its dataclass fields are its settings.

    It may have `fits(shape) -> shape` (see `architecture.Shape`): the shape that it leaves, or a
    ConfigError, told before any step of a run starts.
    """

    kind: ClassVar[Kind]

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Read the folder `source`, write the folder `out`, and tell what was measured.

        `out` must appear whole or not at all.

        Raises:
            FeatherdeskError: a setting does not fit the model, or the result is not right.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step: its folder, settings and what it measured; `seconds` of work."""

    name: str
    kind: Kind
    folder: Path
    settings: Mapping[str, Any]
    measured: Mapping[str, Any]
    seconds: float


def identity_of(source: Path) -> str:
    """Names a model folder by its configuration and weights."""
    files = sorted((*source.glob("*.json"), *source.glob("*.safetensors")))
    return _hash(*(f"{path.name} {sha256_of(path)}" for path in files))


def run_steps(
    named: Sequence[tuple[str, Step]],
    source: Path,
    work: Path,
    task: Task,
    after: Callable[[Done], None] = lambda _: None,
) -> list[Done]:
    """Run steps in order from `source`; folders lie in `work` as `01-layers`, `02-heal`, ...

    Started again after an interruption, it goes on behind the last whole step, as long as source,
    parent, calibration data, settings and order are the same. `after` is called behind every step,
    run or kept.

    Raises:
        FeatherdeskError: a step failed, or cannot fit what the steps before it leave; the latter
            is said before any of them starts.
    """
    check_fit(named, source)
    key = _hash(identity_of(source), identity_of(task.parent), task.material.digest())
    folder = source
    finished = []
    for number, (name, step) in enumerate(named, start=1):
        settings = asdict(step)  # type: ignore[call-overload]
        key = _hash(key, name, json.dumps(settings, sort_keys=True, default=str), task.seed)
        place = work / f"{number:02}-{name}"
        done = _kept(place, name, step, settings, key)
        if done is None:
            task.notify(f"step {number} of {len(named)}: {name} {_shown(settings)}")
            done = _run(place, name, step, settings, key, folder, task)
        else:
            task.notify(f"step {number} of {len(named)}: {name} was done already")
        finished.append(done)
        after(done)
        folder = done.folder
    return finished


def check_fit(named: Sequence[tuple[str, Step]], source: Path) -> None:
    """Let every step that knows how (`fits`: a shape in, a shape out) say whether it will fit.

    Raises:
        FeatherdeskError: one does not, or `source` is no model.
    """
    from .architecture import shape_of  # recipes are read without torch

    shape = None
    for _, step in named:
        fits = getattr(step, "fits", None)
        if fits is not None:
            shape = fits(shape or shape_of(source))


def _run(
    place: Path,
    name: str,
    step: Step,
    settings: Mapping[str, Any],
    key: str,
    source: Path,
    task: Task,
) -> Done:
    from safetensors import SafetensorError  # recipes are read without it

    began = time.monotonic()
    clear(place)
    with atomic_folder(place) as fresh:
        try:
            measured = dict(step.run(source, fresh / "model", task))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise FeatherdeskError(
                f"{name}: out of memory; close other programs or take smaller settings; run the "
                "same command again: finished steps are kept"
            ) from None
        except (OSError, SafetensorError) as error:  # a disk that is full, a file that is damaged
            raise FeatherdeskError(
                f"{name}: {error}; free space or mend the file, and run the same command again: "
                "finished steps are kept"
            ) from None
        if not (fresh / "model").is_dir():
            raise FeatherdeskError(f"the step {name!r} left no folder; tell its author")
        seconds = round(time.monotonic() - began, 1)
        told = {"key": key, "measured": measured, "seconds": seconds}
        (fresh / "step.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return Done(name, step.kind, place / "model", settings, measured, seconds)


def _kept(place: Path, name: str, step: Step, settings: Mapping[str, Any], key: str) -> Done | None:
    """A finished step of an earlier run, if it was made from the same."""
    try:
        told = json.loads((place / "step.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if told.get("key") != key or not (place / "model").is_dir():
        return None
    return Done(name, step.kind, place / "model", settings, told["measured"], told["seconds"])


def _hash(*parts: object) -> str:
    return hashlib.sha256("\x00".join(map(str, parts)).encode()).hexdigest()


def _shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())

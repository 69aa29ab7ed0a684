"""A whole compression: the steps of a recipe, then a bot that serves the result, or a folder.

Everything is made beside the output and takes its place in one step at the end; started again
after an interruption it goes on behind the last whole step. Knows nothing of the command line.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..agent.artifacts import Manifest, atomic_folder, place, seal
from ..agent.config import load_config
from ..agent.prefill import FOLDER, write_blocks
from .recipe import Recipe
from .steps import Done, Notify, Task, run_steps
from .subject import Subject, find_subject
from .trial import entries_of

__all__ = ["Compressed", "bot_with", "compress", "finish", "work_folder"]

COMPRESSION = "compression.json"


@dataclass(frozen=True, slots=True)
class Compressed:
    """What a run left: the folder, the size of its generator in MB, and its steps."""

    folder: Path
    subject: Subject
    steps: tuple[Done, ...]
    generator_mb: float


def work_folder(out: Path) -> Path:
    """Where a run keeps its steps until `out` is whole."""
    return out.parent / f".{out.name}.work"


def compress(
    source: str,
    recipe: Recipe,
    out: Path,
    *,
    adapter: str = "",
    calibration: Path | None = None,
    seed: int = 7,
    notify: Notify = lambda _: None,
) -> Compressed:
    """Run a recipe on a bot folder, a model folder or a catalogue id; the result waits in the work
    folder of `out` until it is proven and `finish` puts it in its place.

    A bot becomes a bot folder with the new generator; a model becomes a generator folder.

    Raises:
        FeatherdeskError: the source, the recipe or a step is at fault; see its message.
    """
    work = work_folder(out)
    subject = find_subject(source, work, adapter=adapter, calibration=calibration, notify=notify)
    task = Task(subject.parent, subject.material, work / "scratch", notify, seed)
    done = run_steps(recipe.steps, subject.parent, work, task)
    generator = done[-1].folder
    told = [_told(step) for step in done]
    made = work / out.name
    if subject.bot is not None:
        bot_with(subject.bot, generator, made, steps=told)
    else:
        with atomic_folder(made) as folder:
            place(generator, folder)
            (folder / COMPRESSION).write_text(json.dumps(told, indent=1), encoding="utf-8")
    size = sum(path.stat().st_size for path in generator.iterdir() if path.is_file()) / 1e6
    return Compressed(made, subject, tuple(done), round(size, 1))


def finish(done: Compressed, out: Path) -> None:
    """Put the proven result in its place, whole."""
    with atomic_folder(out) as folder:
        place(done.folder, folder)


def bot_with(
    bot: Path,
    generator: Path,
    out: Path,
    *,
    steps: Sequence[dict[str, Any]] = (),
) -> Manifest:
    """A copy of a bot folder that answers with another generator, not yet gated."""
    manifest = Manifest.load(bot)
    with atomic_folder(out) as folder:
        for item in bot.iterdir():
            if item.name not in {"generator", "report", "manifest.json", FOLDER}:
                place(item, folder / item.name)
        shutil.copytree(generator, folder / "generator")
        if manifest.blocks:
            room = load_config(bot / "bot.toml").generation.stored_mb
            write_blocks(folder, list(entries_of(bot).values()), manifest.writes, room)
        fresh = replace(manifest, steps=tuple(steps), gate=None)
        return seal(folder, fresh)


def _told(step: Done) -> dict[str, Any]:
    return {
        "name": step.name,
        "settings": dict(step.settings),
        "measured": dict(step.measured),
        "seconds": step.seconds,
    }

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
from ..agent.demand import asked, most_asked_first
from ..agent.destination import COMPRESSION
from ..agent.errors import ArtifactError
from ..agent.prefill import FOLDER, write_blocks
from .material import Material
from .noninferiority import Verdict
from .recipe import Recipe
from .steps import Done, Notify, Task, run_steps
from .subject import Subject, find_subject
from .trial import entries_of

__all__ = ["Compressed", "bot_with", "compress", "finish", "places", "read_together", "work_folder"]

PASSED = Verdict.PASSED.value


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
    made = work / "result" / out.name
    if subject.bot is not None:
        bot_with(
            subject.bot, generator, made, steps=told, apart=_reads_apart(done, subject.material)
        )
    else:
        with atomic_folder(made) as folder:
            place(generator, folder)
            (folder / COMPRESSION).write_text(json.dumps(told, indent=1), encoding="utf-8")
    size = sum(path.stat().st_size for path in generator.iterdir() if path.is_file()) / 1e6
    return Compressed(made, subject, tuple(done), round(size, 1))


def finish(done: Compressed, out: Path, verdict: str = PASSED) -> Path:
    """Put the result in its place, whole; returns that place.

    What was judged and did not pass (`verdict`) takes no bot's place that did pass: it goes beside.
    """
    if verdict != PASSED and _passed(out):
        out = _beside(out, verdict)
    with atomic_folder(out) as folder:
        place(done.folder, folder)
    return out


def places(out: Path) -> list[Path]:
    """Where a result may go: to `out`, or beside it if a bot lies there that passed."""
    others = [verdict.value for verdict in Verdict if verdict.value != PASSED]
    return [out, *(_beside(out, one) for one in others if _passed(out))]


def _beside(out: Path, verdict: str) -> Path:
    return out.with_name(f"{out.name}-{verdict}")


def _passed(bot: Path) -> bool:
    try:
        return (Manifest.load(bot).gate or {}).get("verdict") == PASSED
    except ArtifactError:
        return False


def bot_with(
    bot: Path,
    generator: Path,
    out: Path,
    *,
    steps: Sequence[dict[str, Any]] = (),
    apart: bool = False,
) -> Manifest:
    """A copy of a bot folder that answers with another generator, not yet gated; `apart` says
    that it has learned to read entries one by one, if the one before has not."""
    manifest = Manifest.load(bot)
    manifest = replace(manifest, blocks=manifest.blocks or apart)
    with atomic_folder(out) as folder:
        for item in bot.iterdir():
            if item.name not in {"generator", "report", "manifest.json", FOLDER}:
                place(item, folder / item.name)
        shutil.copytree(generator, folder / "generator")
        if manifest.blocks:
            config = load_config(bot / "bot.toml")
            entries = list(entries_of(bot).values())
            told = most_asked_first(entries, asked(bot, config.storage.url))
            write_blocks(folder, told, manifest.writes, config.generation.stored_mb)
        fresh = replace(manifest, steps=tuple(steps), gate=None)
        return seal(folder, fresh)


def read_together(bot: Path) -> None:
    """Have a bot that was not judged yet read its entries together again, as its parent does."""
    shutil.rmtree(bot / FOLDER, ignore_errors=True)
    seal(bot, replace(Manifest.load(bot), blocks=False, gate=None))


def _reads_apart(done: Sequence[Done], material: Material) -> bool:
    """Whether healing taught to read entries one by one: a third of its rows at the least."""
    rows = material.rows
    taught = 3 * sum(row.block for row in rows) >= len(rows) > 0
    return taught and any(step.kind == "heal" for step in done)


def _told(step: Done) -> dict[str, Any]:
    return {
        "name": step.name,
        "settings": dict(step.settings),
        "measured": dict(step.measured),
        "seconds": step.seconds,
    }

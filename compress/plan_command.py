"""`featherdesk plan`: which compression fits this machine, measured here, in the time given."""

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..agent.destination import JOURNAL, check_destination
from ..agent.errors import FeatherdeskError
from .candidate import Budget
from .commands import GRAPH, needs_train
from .planner import Plan

if TYPE_CHECKING:
    from .material import Material

__all__ = ["plan"]

_ROWS = 2000
"""Rows of a bot to measure and to heal briefly with."""


@click.command()
@click.argument("model", metavar="BOT|MODEL")
@click.option("--max-mb", type=click.FloatRange(0), default=0.0, help="Generator folder, MB.")
@click.option("--max-ms", type=click.FloatRange(0), default=0.0, help="First token, with --users.")
@click.option("--users", type=click.IntRange(1), default=1, show_default=True, help="At once.")
@click.option("--minutes", type=click.FloatRange(0.1), default=90.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write [MODEL-plan].")
@click.option("--calibration", type=click.Path(path_type=Path), help="Rows (.jsonl) or text.")
@click.option("--adapter", default="", help="Merge this adapter first [the bot's own].")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    model: str,
    *,
    max_mb: float,
    max_ms: float,
    users: int,
    minutes: float,
    out: Path | None,
    calibration: Path | None,
    adapter: str,
    seed: int,
    as_json: bool,
) -> None:
    """Measure candidates on this machine and pick a recipe, or none.

    Ends in the minutes it is given. Run again, it goes on with what was measured before and with
    the minutes that were left. `featherdesk compress MODEL --recipe DIR/plan.toml` makes the pick.
    """
    budget = Budget(max_mb, max_ms, users, minutes)
    needs_train(*GRAPH, "matplotlib")
    folder = out or Path(f"{Path(model).name}-plan")
    check_destination(folder, model, calibration)
    told, text = _run(model, budget, folder, calibration, adapter, seed)
    click.echo(json.dumps(told) if as_json else text)
    if told["pick"] is None:
        raise FeatherdeskError(f"{told['reason']}; everything tried is in {folder}/plan.json")


def _run(
    model: str, budget: Budget, folder: Path, calibration: Path | None, adapter: str, seed: int
) -> tuple[dict[str, object], str]:
    """Plan, and write the files; what --json prints, and the table."""
    from ..agent.cores import available_cores
    from . import planner
    from .architecture import shape_of
    from .commands import say
    from .plan_files import table, told, write_plan
    from .steps import Task
    from .subject import find_subject
    from .workshop import FileJournal, Workshop, layers_of_interest, pruning_of

    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOURNAL).touch()  # a folder of ours from now on
    subject = find_subject(
        model, folder / "model", adapter=adapter, calibration=calibration, rows=_ROWS, notify=say
    )
    parent = subject.parent
    shape = shape_of(parent)
    cores = available_cores()
    wanted = planner.candidates(shape.layers, shape.vocabulary, cores)
    identity = _identity(parent, subject.material, budget, seed)
    journal = FileJournal(folder / JOURNAL, identity)
    with _progress() as (tell, notify):
        workshop = Workshop(
            folder=folder / identity,
            task=Task(parent, subject.material, folder / "work", tell, seed, progress=False),
            users=budget.users,
            threads=cores,
            most_layers=layers_of_interest(parent, wanted),
        )
        found = planner.plan(wanted, workshop, budget, journal, notify)
    picked = found.pick.candidate if found.pick else None
    pruning = pruning_of(picked, workshop.order()) if picked and picked.pruned else []
    about = {
        "model": model,
        "machine": f"{cores} cores, {platform.machine()}, {platform.system()}",
        "command": _command(model, budget, folder, calibration, adapter, seed),
    }
    write_plan(folder, found, pruning, about)
    return {**about, "folder": str(folder), **told(found)}, _summary(found, folder, table(found))


def _command(
    model: str, budget: Budget, folder: Path, calibration: Path | None, adapter: str, seed: int
) -> str:
    """The command that plans the same again."""
    told = {
        "max-mb": budget.max_mb,
        "max-ms": budget.max_ms,
        "users": budget.users,
        "minutes": budget.minutes,
        "out": folder,
        "calibration": calibration,
        "adapter": adapter,
        "seed": seed,
    }
    given = [
        part
        for name, value in told.items()
        if value or name == "seed"
        for part in (f"--{name}", str(value))
    ]
    return shlex.join(["featherdesk", "plan", model, *given])


def _summary(found: Plan, folder: Path, table: str) -> str:
    lines = [table, "", found.reason]
    if (folder / "plan.toml").exists():
        lines.append(f"recipe: {folder}/plan.toml")
    if found.pick and found.pick.candidate.threads:
        lines.append(f"in bot.toml: [generation] threads = {found.pick.candidate.threads}")
    return "\n".join(lines)


def _identity(parent: Path, material: "Material", budget: Budget, seed: int) -> str:
    """What a measurement is of: model, questions and load."""
    from .steps import identity_of

    told = f"{identity_of(parent)} {material.digest()} {budget.users} {seed}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


Say = Callable[[str], None]


@contextmanager
def _progress() -> Iterator[tuple[Say, Callable[[str, float], None]]]:
    """A bar of the time that is gone with what is being tried; plain lines without a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from .commands import say

    terminal = sys.stderr.isatty()
    columns = (
        TextColumn("planning"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not terminal) as bar:
        shown = bar.add_task("", total=1.0)

        def notify(what: str, share: float) -> None:
            bar.update(shown, description=what, completed=share)
            if not terminal:
                say(f"{100 * share:3.0f} % of the time: {what}")

        def tell(text: str) -> None:
            if terminal:
                bar.console.print(text, style="dim", highlight=False)

        yield tell, notify

"""`featherdesk gate`: judges an artefact against its parent, marks it, and says why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..agent.errors import GateError

if TYPE_CHECKING:
    from .recipe import Margins

__all__ = ["gate"]

_POINTS = click.FloatRange(0, 100)


@click.command()
@click.argument("parent", type=click.Path(path_type=Path))
@click.argument("artefact", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A test file, the bot's own first; of the others only ids are shown.",
)
@click.option("--recipe", help="Take the margins of a recipe.")
@click.option("--margin-loss", type=_POINTS, help="The upper bound of a loss stays under it [2].")
@click.option("--margin-estimate", type=_POINTS, help="The loss itself stays under it [1].")
@click.option("--margin-fallback", type=_POINTS, help="Fall-backs may rise by it [2].")
@click.option("--questions", type=click.IntRange(1500), default=1500, show_default=True)
@click.option("--pairs", type=click.IntRange(0), default=900, show_default=True)
@click.option("--limit", type=click.IntRange(0), default=0, help="A look: so many test rows.")
@click.option("--static", "static_only", is_flag=True, help="Look at the files, ask nothing.")
@click.option("--fresh", is_flag=True, help="Ask again what was asked before.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--report", type=click.Path(path_type=Path), help="Write the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def gate(
    parent: Path,
    artefact: Path,
    *,
    data: tuple[Path, ...],
    recipe: str | None,
    margin_loss: float | None,
    margin_estimate: float | None,
    margin_fallback: float | None,
    questions: int,
    pairs: int,
    limit: int,
    static_only: bool,
    fresh: bool,
    seed: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compare two bot folders on what customers get; refuse the ARTEFACT if it got worse.

    Test rows are filled up to --questions with rewordings of them. The verdict is stored in the
    artefact's manifest, failing questions in its report/gate.json; that of a look (--limit,
    --static) only if it refuses. Exit code 3: refused or undecided.
    """
    from .gate import run_gate, store
    from .json_file import write_json
    from .noninferiority import Verdict
    from .trial import entries_of, make_trial, shipped_rewordings

    margins = _margins(recipe, loss=margin_loss, estimate=margin_estimate, fallback=margin_fallback)
    trial = None
    if not static_only:
        trial = make_trial(
            data,
            entries_of(parent),
            shipped_rewordings(),
            questions=questions,
            pairs=pairs,
            limit=limit,
            bot=parent,
            seed=seed,
        )
        if trial.repeated:
            click.echo(f"{trial.repeated} test rows ask what others do: dropped", err=True)
    judgement = run_gate(parent, artefact, trial, margins, fresh=fresh, seed=seed)
    looked = bool(static_only or limit) and judgement.verdict is not Verdict.REFUSED
    result = judgement.to_json() if looked else store(artefact, judgement, trial)
    result["data"] = [path.name for path in data]
    if report is not None:
        write_json(report, result)
    click.echo(json.dumps(result, indent=1, ensure_ascii=False) if as_json else table(result))
    if looked and static_only:
        click.echo("the files give no reason to refuse it; nothing was asked", err=True)
        return
    if looked:
        click.echo("a look with --limit is stored only where it refuses", err=True)
    if judgement.verdict is not Verdict.PASSED:
        reasons = "; ".join(judgement.reasons[:3])
        raise GateError(f"{artefact} {_SAID[judgement.verdict.value]}: {reasons}")


def _margins(recipe: str | None, **given: float | None) -> "Margins":
    """Those of a recipe or the default ones, with what was given instead."""
    from .recipe import Margins, load_recipe

    margins = load_recipe(recipe).margins if recipe else Margins()
    return replace(margins, **{name: v for name, v in given.items() if v is not None})


_SAID = {"refused": "is refused", "undecided": "is neither passed nor refused"}


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    margins = result["margins"]
    wider = " (wider than the default 2, 1, 2)" if margins["wider"] else ""
    lines = [
        f"{result['verdict']}: {result['questions']} paired questions of {result['originals']} "
        f"originals, {result['fairness_pairs']} fairness pairs, {result['injections']} injections",
        f"margins: bound {margins['loss']:g}, estimate {margins['estimate']:g}, fall-backs "
        f"{margins['fallback']:g} points{wider}",
        f"{'':22} parent  artefact  loss [95 % bounds]     lost   won    of",
    ]
    for name, one in result["measures"].items():
        bounds = f"{one['estimate']:5.1f} [{one['lower']:.1f}, {one['upper']:.1f}]"
        lines.append(
            f"{name:22} {one['parent']:6.1%}  {one['artefact']:8.1%}  {bounds:20} "
            f"{one['lost']:6} {one['won']:5} {one['questions']:5}  {one['verdict']}"
        )
    lines += [f"- {reason}" for reason in result["reasons"]]
    return "\n".join(lines)

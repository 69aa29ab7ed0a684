"""`featherdesk compress`: a recipe's steps on a bot or any causal LM, with the proof."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..agent.artifacts import is_bot
from ..agent.errors import ConfigError, GateError

if TYPE_CHECKING:
    from .compression import Compressed
    from .proof import Proof

__all__ = ["compress"]


@click.command()
@click.argument("model", metavar="BOT|MODEL")
@click.option("--recipe", default="balanced", show_default=True, help="A name, or a TOML file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--adapter", default="", help="Merge this adapter first [the bot's own].")
@click.option("--calibration", type=click.Path(path_type=Path), help="Rows (.jsonl) or text.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="Tests for the gate.")
@click.option("--dev", type=click.Path(path_type=Path), help="Tests to fit thresholds on.")
@click.option(
    "--questions",
    type=click.IntRange(4),
    default=24,
    show_default=True,
    help="Asked of every step for the report.",
)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compress(
    model: str,
    *,
    recipe: str,
    out: Path,
    adapter: str,
    calibration: Path | None,
    data: tuple[Path, ...],
    dev: Path | None,
    questions: int,
    seed: int,
    as_json: bool,
) -> None:
    """Prune, heal, quantize and export: a bot folder, a model folder or a catalogue id.

    Run again after an interruption, it goes on behind the last whole step. A bot folder becomes a
    bot folder; with --data it is compared with its whole fp32 parent and refused if it got worse.
    """
    from .commands import GRAPH, needs_train, say

    needs_train(*GRAPH, "matplotlib")
    from ..agent.destination import check_destination
    from ..agent.generators import adapter_folder
    from .compression import compress as run
    from .compression import finish, places, work_folder
    from .noninferiority import Verdict
    from .proof import prove
    from .recipe import load_recipe

    told = load_recipe(recipe)
    sources = (model, adapter_folder(adapter), calibration, dev, *data)
    recipe_file = Path(recipe) if Path(recipe).is_file() else None
    for place in places(out):
        check_destination(place, recipe_file, *sources)
    if data or dev:
        _check_tests(model, data, dev)
    done = run(model, told, out, adapter=adapter, calibration=calibration, seed=seed, notify=say)
    command = shlex.join(["featherdesk", *sys.argv[1:]])
    proof = prove(
        done,
        told,
        work_folder(out),
        command=command,
        tests=data,
        dev=dev,
        questions=questions,
        notify=say,
    )
    verdict = proof.judgement.verdict if proof.judgement else None
    made = finish(done, out, (verdict or Verdict.PASSED).value)
    if verdict is not Verdict.UNDECIDED:  # with more test rows, the steps need not run again
        shutil.rmtree(work_folder(out), ignore_errors=True)
    result = _result(made, done, proof)
    click.echo(json.dumps(result) if as_json else _table(result))
    if proof.judgement is not None and proof.judgement.verdict is not Verdict.PASSED:
        reasons = "; ".join(proof.judgement.reasons[:3])
        kept = f"; {out}, which passed before, stays as it is" if made != out else ""
        raise GateError(f"{made} {proof.judgement.verdict.value}: {reasons}{kept}")


def _check_tests(model: str, data: tuple[Path, ...], dev: Path | None) -> None:
    """Read what the proof will read: a wrong row must not show after hours of work."""
    from .commands import say
    from .trial import check_tests, entries_of

    bot = Path(model).expanduser()
    if not is_bot(bot):
        raise ConfigError(f"{model} is no bot folder: only a bot is asked --data and --dev")
    check_tests(data, dev, entries_of(bot), say)


def _result(out: Path, done: "Compressed", proof: "Proof") -> dict[str, Any]:
    """What --json prints: the size, ratios to the unpruned int4 model, and the verdict."""
    from ..agent.prefill import FOLDER
    from .measure import size_mb
    from .measured import ratio

    run = proof.run
    told: dict[str, Any] = {"folder": str(out), "generator_mb": done.generator_mb}
    if (out / FOLDER).is_dir():
        told["stored_entries_mb"] = size_mb(out / FOLDER)
    if run.result and run.unpruned and run.unpruned.characters.median:
        told["first_token_ratio"] = ratio(run.result, run.unpruned, "first").median
        told["characters_ratio"] = ratio(run.result, run.unpruned, "rate").median
        told["correct"] = run.result.quality.correct
    if proof.judgement is not None:
        told["gate"] = proof.judgement.verdict.value
    told["report"] = str(out / "report" / "report.html")
    return told


def _table(told: dict[str, Any]) -> str:
    stored = told.get("stored_entries_mb", 0)
    beside = f", and {stored:.1f} MB of entries read beforehand" if stored else ""
    lines = [f"{told['folder']}: {told['generator_mb']:.1f} MB{beside}"]
    if "first_token_ratio" in told:
        lines.append(
            "against the unpruned int4 model: time to first token "
            f"x{told['first_token_ratio']:.2f}, characters a second "
            f"x{told['characters_ratio']:.2f}; "
            f"{told['correct']:.0%} of held answers right"
        )
    lines.append(f"gate: {told.get('gate', 'not run; name test rows with --data')}")
    lines.append(f"report: {told['report']}")
    return "\n".join(lines)

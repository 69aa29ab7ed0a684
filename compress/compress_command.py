"""`featherdesk compress`: a recipe's steps on a bot or any causal LM, with the proof."""

import json
from pathlib import Path

import click

from ..agent.errors import ConfigError

__all__ = ["compress"]


@click.command()
@click.argument("model", metavar="BOT|MODEL")
@click.option("--recipe", default="balanced", show_default=True, help="A name, or a TOML file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--adapter", default="", help="Merge this adapter first [the bot's own].")
@click.option("--calibration", type=click.Path(path_type=Path), help="Rows (.jsonl) or text.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="Tests for the gate.")
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
    seed: int,
    as_json: bool,
) -> None:
    """Prune, heal, quantize and export: a bot folder, a model folder or a catalogue id.

    Run again after an interruption, it goes on behind the last whole step. A bot folder becomes a
    bot folder; with --data it is compared with its whole fp32 parent and refused if it got worse.
    """
    from .commands import needs_train, say

    needs_train()
    from .compression import compress as run
    from .recipe import load_recipe

    told = load_recipe(recipe)
    for path in data:
        if not path.is_file():
            raise ConfigError(f"--data {path}: no such file")
    done = run(model, told, out, adapter=adapter, calibration=calibration, seed=seed, notify=say)
    if as_json:
        click.echo(json.dumps({"folder": str(out), "generator_mb": done.generator_mb}))
        return
    click.echo(f"{out}: {done.generator_mb:.1f} MB by the recipe {told.name}")

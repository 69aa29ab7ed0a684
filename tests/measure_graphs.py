"""A bot's generator by the graph of blocks and by its second graph: times, and equal answers.

    python tests/measure_graphs.py BOT [OTHER ...] --questions TEST.jsonl [--limit 160]

Every prompt that BOT's model is given is asked of BOT's `model.onnx`, of BOT's second graph and of
that of the OTHERs (the same weights, exported otherwise), in turn, in one process. Prints medians in
milliseconds, ratios to `model.onnx` prompt by prompt, and how many answers are the same token by
token, or at least begin alike. Entries are stored beforehand where BOT stores them.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import click
from featherdesk.agent import sessions
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.progress import track
from featherdesk.agent.runtime import Generator
from featherdesk.serve.prompts import Prompt, gather

_WARM = 20

Told = tuple[list[int], float, float]
"""Tokens, and seconds to the first and to the last."""


def opened(bot: Path, *, wide: bool) -> Generator:
    """The generator of a bot, by the graph that is asked for."""
    with patch.object(sessions, "sums_bytes", lambda: wide):
        generator = Agent.load(bot).generator
    if generator is None:
        raise FeatherdeskError(f"{bot} has no generator")
    return generator


def asked(generator: Generator, prompt: Prompt) -> Told:
    """What it writes to a prompt, and how soon."""
    began, first, written = time.perf_counter(), 0.0, []
    for step in generator.generate(
        prompt.ids,
        max_tokens=prompt.limit,
        deadline=time.monotonic() + 60,
        stopped=lambda: False,
        blocks=prompt.blocks,
        sources=prompt.sources,
    ):
        first = first or time.perf_counter() - began
        written.append(step.token)
    return written, first, time.perf_counter() - began


def row(name: str, told: Sequence[Told], base: Sequence[Told]) -> str:
    """A line of the table: medians, ratios to the base, equal answers."""
    pairs = list(zip(told, base, strict=True))
    cells = []
    for place in (1, 2):
        ms = 1000 * statistics.median(float(one[place]) for one in told)
        ratio = statistics.median(float(one[place]) / float(two[place]) for one, two in pairs)
        cells.append(f"{ms:.1f} ({ratio:.2f})")
    equal = sum(one[0] == two[0] for one, two in pairs)
    begun = sum(one[0][:1] == two[0][:1] for one, two in pairs)
    return f"| {name} | {' | '.join(cells)} | {equal} | {begun} |"


@click.command()
@click.argument("bots", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--questions", type=click.Path(path_type=Path), help="A test file.")
@click.option("--limit", type=click.IntRange(1), default=160, show_default=True)
def main(bots: tuple[Path, ...], questions: Path | None, limit: int) -> None:
    """Ask every prompt of every graph in turn."""
    prompts = gather(bots[0], questions, limit).prompts
    sides = {"model.onnx": opened(bots[0], wide=False)}
    sides |= {f"second graph of {bot.name}": opened(bot, wide=True) for bot in bots}
    for prompt in prompts[:_WARM]:
        for side in sides.values():
            asked(side, prompt)
    told: dict[str, list[Told]] = {name: [] for name in sides}
    for prompt in track(prompts, "prompts"):
        for name, side in sides.items():
            told[name].append(asked(side, prompt))
    click.echo(f"{len(prompts)} prompts\n")
    click.echo("| | first token, ms | whole answer, ms | equal answers | equal first tokens |")
    click.echo("|---|---|---|---|---|")
    base = told["model.onnx"]
    for name, rows in told.items():
        click.echo(row(name, rows, base))


if __name__ == "__main__":
    main()

"""Answers written with guesses and without them: how many are the same, and why the others are not.

    python tests/measure_lookup.py BOT --questions TEST.jsonl [--limit 160]

Guesses are verified in the pass that takes them in, so an answer is another one only where kernels
round a pass of several tokens otherwise than one of a single token. Of every place where both ways
had written the same so far it is seen how far the logits moved (root mean square, over their
spread). Of each answer that differs it is told where, and how much likelier the token that was
chosen without guesses was than the other one: a difference that is no larger than what rounding moves
is rounding.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
from featherdesk.agent.decoder import Decoder
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.progress import track
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.serve.prompts import Prompt, gather
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Parted:
    """Where two answers part: the place, by how much of the spread the choice without guesses led,
    and how far the logits had moved there."""

    place: int
    lead: float
    moved: float


def written(
    generator: OnnxGenerator, prompt: Prompt, sources: Sequence[Sequence[int]]
) -> tuple[list[int], list[Logits]]:
    """An answer's tokens with the end of its turn, and the logits that each was chosen by."""
    passes: list[Logits] = []
    whole = Decoder.alone

    def watched(self: Decoder, *told: object, kept: bool = False, last: int = 0) -> Logits:
        rows: Logits = whole(self, *told, kept=kept, last=last)  # type: ignore[arg-type]
        if not kept:
            passes.append(rows.copy())
        return rows

    with patch.object(Decoder, "alone", watched):
        steps = list(
            generator.generate(
                prompt.ids,
                max_tokens=prompt.limit,
                deadline=time.monotonic() + 60,
                stopped=lambda: False,
                blocks=prompt.blocks,
                sources=sources,
            )
        )
    chosen: list[Logits] = []
    at = 0
    for step in steps:
        chosen.append(passes[0][at])
        at += 1
        if not step.more and len(passes) > 1:
            passes.pop(0)
            at = 0
    if len(steps) < prompt.limit:
        chosen.append(passes[0][at])  # the end of the turn
    return [int(row.argmax()) for row in chosen], chosen


def parted(
    alone: tuple[list[int], list[Logits]], guessed: tuple[list[int], list[Logits]]
) -> tuple[list[float], Parted | None]:
    """How far logits moved where the same had been written, and where the answers part."""
    moved: list[float] = []
    for place, (one, other) in enumerate(zip(alone[0], guessed[0], strict=False)):
        row, there = alone[1][place], guessed[1][place]
        spread = float(row.std())
        moved.append(float(np.sqrt(((row - there) ** 2).mean())) / spread)
        if one != other:
            return moved, Parted(place, float(row[one] - row[other]) / spread, moved[-1])
    return moved, None


@click.command()
@click.argument("bot", type=click.Path(path_type=Path))
@click.option("--questions", type=click.Path(path_type=Path), help="A test file.")
@click.option("--limit", type=click.IntRange(1), default=160, show_default=True)
def main(bot: Path, questions: Path | None, limit: int) -> None:
    """Write every answer of BOT both ways."""
    prompts = gather(bot, questions, limit).prompts
    generator = Agent.load(bot).generator
    if not isinstance(generator, OnnxGenerator):
        raise FeatherdeskError(f"{bot} has no generator")
    moved: list[float] = []
    equal, differ = 0, []
    for prompt in track(prompts, "prompts"):
        alone = written(generator, prompt, ())
        guessed = written(generator, prompt, prompt.sources)
        found, place = parted(alone, guessed)
        moved += found
        equal += alone[0] == guessed[0]
        differ += [(prompt.id, place)] if place else []
    click.echo(f"{len(prompts)} answers, {equal} the same token by token with guesses and without")
    if moved:
        middle, most = 100 * statistics.median(moved), 100 * max(moved)
        click.echo(
            f"logits of {len(moved)} tokens moved by {middle:.2f} % of their spread at the median,"
            f" {most:.2f} % at most"
        )
    for name, at in differ:
        click.echo(
            f"{name}: token {at.place + 1}; the one chosen without guesses leads by"
            f" {100 * at.lead:.2f} % of the spread, logits moved by {100 * at.moved:.2f} %"
        )


if __name__ == "__main__":
    main()

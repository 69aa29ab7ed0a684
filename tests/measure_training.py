"""Training speed: `featherdesk finetune` against a plain Trainer loop on the same rows.

    python tests/measure_training.py [ROWS.jsonl ...] --out OUT.json

Without ROWS the rows are made from the package's own topics. Every side is a process of its own;
they train in turn, a few steps each, so that a busy machine slows all alike:

- trainer: transformers' Trainer, as one writes it: fp32, a question a row, padded to the longest of
  the batch, -100 on what is no answer, no gradient checkpointing.
- ours: `finetune` as it is; the questions of a context share it.
- alone: `finetune` with a question a row, as the Trainer has them.
- trainer-bf16: the Trainer with `bf16=True`; only when asked for.

All have the same LoRA, optimizer, schedule and, on the mean, questions a step; the Trainer meets the
questions in the order of `alone`. All losses are taken in the same way. The Trainer's batches cannot
keep entries apart, so no row asks for that. Ours counts the first token of an answer four times, as
`finetune` does, and is judged without.
Evaluations do not count as training. The ratio is of the seconds to the same validation loss: the
one the Trainer ends with, or the higher of the two ends where the other side does not reach it.
"""

import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from featherdesk.compress import dataset
from featherdesk.compress.dataset import Encoded, Row, encode
from featherdesk.compress.finetune import epoch_batches
from featherdesk.compress.methods import TrainingConfig
from training_sides import Job, Point, encoder, one_question_each, train

SIDES = ("trainer", "ours", "alone", "trainer-bf16")
MOST = 8
"""Rows of the Trainer's batches: their logits take 50 MB a row. A step is several of them."""


@dataclass(slots=True)
class Side:
    """What a side came to; `finished` is false where the time ran out."""

    questions: int
    answer_tokens: int
    tokens: int
    steps: int
    finished: bool = False
    curve: list[Point] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.curve[-1].seconds

    @property
    def questions_per_s(self) -> float:
        """Questions a second, of as many as were trained on."""
        return self.questions * self.curve[-1].step / self.steps / max(self.seconds, 1e-9)


def seconds_to(curve: Sequence[Point], loss: float) -> float | None:
    """Training seconds at which a loss is first reached, between evaluations on a line; or None."""
    for before, after in pairwise(curve):
        if after.loss <= loss < before.loss:
            share = (before.loss - loss) / (before.loss - after.loss)
            return before.seconds + share * (after.seconds - before.seconds)
    return None


def compared(plain: Side, other: Side) -> dict[str, float | bool | None]:
    """How many times faster the other side is, to the same loss and by questions a second."""
    aim = plain.curve[-1].loss
    reached = min(point.loss for point in other.curve) <= aim
    aim = aim if reached else min(point.loss for point in other.curve)
    slow, fast = seconds_to(plain.curve, aim), seconds_to(other.curve, aim)
    return {
        "loss": aim,
        "reaches_the_plain_loss": reached,
        "seconds_plain": slow,
        "seconds": fast,
        "ratio_to_same_loss": slow / fast if slow and fast else None,
        "ratio_questions_per_s": other.questions_per_s / plain.questions_per_s,
    }


def steps_of(encoded: Sequence[Encoded], config: TrainingConfig) -> int:
    """Optimizer steps of `finetune` for one epoch."""
    return math.ceil(len(epoch_batches(encoded, config, 0)) / config.accumulate)


def prepared(
    names: Sequence[str], base: Path, rows: Sequence[Row], held: Sequence[Row], config: TrainingConfig,
    place: Path,
) -> dict[str, tuple[Job, Side]]:  # fmt: skip
    """Jobs whose steps hold as many questions, on the mean, on every side."""
    tokens = encoder(base)
    together = [encode(row, tokens) for row in rows]
    single = one_question_each(rows)
    apart = [encode(row, tokens) for row in single]
    steps = steps_of(together, config)
    longer = sum(map(len, apart)) / sum(map(len, together))
    made = {}
    for name in names:
        own, told, its = (rows, together, config) if name == "ours" else (single, apart, config)
        if name == "alone":
            its = replace(config, accumulate=max(1, round(config.accumulate * longer)))
        asked = math.ceil(len(single) / steps)
        parts = math.ceil(asked / MOST)
        batch = math.ceil(asked / parts)
        count = math.ceil(len(single) / (batch * parts))
        job = Job(name, base, tuple(own), tuple(held), its, batch, parts, place / name)
        side = Side(
            questions=len(single),
            answer_tokens=sum(int((one.labels != -100).sum()) for one in told),
            tokens=sum(map(len, told)),
            steps=count if name.startswith("trainer") else steps_of(told, its),
        )
        made[name] = (job, side)
    return made


def in_turn(made: dict[str, tuple[Job, Side]], minutes: float) -> None:
    """Let every side train a stretch, one after the other, until all are through."""
    context = get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name, (job, _) in made.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=train, args=(job, theirs), daemon=True).start()
        theirs.close()
        advance(name, made[name][1], pipes)  # it loads, evaluates and waits
    end = time.monotonic() + 60 * minutes
    while pipes:
        for name in list(pipes):
            pipes[name].send(time.monotonic() < end)
            advance(name, made[name][1], pipes)


def advance(name: str, side: Side, pipes: dict[str, Connection]) -> None:
    """Take what a side says next; forget it when it is through."""
    try:
        told = pipes[name].recv()
    except EOFError:
        raise click.ClickException(f"{name} ended early; see above") from None
    if told is None:
        del pipes[name]
        return
    side.curve.append(told)
    side.finished = told.step >= side.steps
    click.echo(
        f"{name}: step {told.step}/{side.steps}, {told.seconds:.0f} s, loss {told.loss:.4f}",
        err=True,
    )


def draw(sides: dict[str, Side], path: Path) -> None:
    """Loss over training seconds, and questions a second."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    curves, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    for name, side in sides.items():
        curves.plot([p.seconds for p in side.curve], [p.loss for p in side.curve], "o-", label=name)
    curves.set(xlabel="seconds of training", ylabel="validation loss, nats an answer token")
    curves.set_yscale("log")
    curves.legend()
    bars.bar(list(sides), [side.questions_per_s for side in sides.values()])
    bars.set(ylabel="questions a second")
    figure.savefig(path, dpi=140)


def lessons(
    files: Sequence[Path], count: int, seed: int, base: Path, length: int
) -> tuple[list[Row], list[Row]]:
    """Rows with about `count` questions, and held ones, that fit into `length` tokens."""
    from featherdesk.compress.corpora import load_topics, split_topics, topic_rows

    if files:
        rows, held = dataset.split([r for file in files for r in dataset.load(file)], 0.1, seed)
        random.Random(seed).shuffle(rows)
    else:
        topics, others = split_topics(load_topics())
        rows = list(topic_rows(topics, count, seed))
        held = list(topic_rows(others, 32, seed + 1))
    tokens = encoder(base)

    def fitting(given: Sequence[Row], most: int) -> list[Row]:
        found: list[Row] = []
        for row in given:
            plain = replace(row, block=False)
            if sum(len(one.questions) for one in found) < most:
                found += [plain] if len(encode(plain, tokens)) <= length else []
        return found

    return fitting(rows, count), fitting(held, 48)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--base", default="smollm2-135m-instruct", show_default=True)
@click.option("--side", "names", multiple=True, type=click.Choice(SIDES), default=SIDES[:3])
@click.option("--questions", type=click.IntRange(1), default=500, show_default=True)
@click.option("--stretch", type=click.IntRange(1), default=3, show_default=True, help="Steps.")
@click.option("--minutes", type=float, default=24.0, show_default=True, help="At most.")
@click.option("--rank", type=int, default=16, show_default=True)
@click.option("--first-layer", type=int, default=6, show_default=True)
@click.option("--learning-rate", type=float, default=8e-4, show_default=True)
@click.option("--threads", type=int, default=0, help="Of every side [the cores there are].")
@click.option("--seed", type=int, default=7, show_default=True)
def main(
    files: tuple[Path, ...], *, out: Path, base: str, names: tuple[str, ...], questions: int,
    stretch: int, minutes: float, rank: int, first_layer: int, learning_rate: float, threads: int,
    seed: int,
) -> None:  # fmt: skip
    """Train on all sides in turn; write OUT.json and OUT.png."""
    import torch
    from featherdesk.compress.assemble import assemble_base
    from featherdesk.compress.methods import has_bf16

    if names[0] != "trainer":
        raise click.BadParameter("the first one must be trainer: others are compared with it")
    folder = assemble_base(base, click.echo)
    config = TrainingConfig(
        rank=rank, alpha=2 * rank, learning_rate=learning_rate, first_layer=first_layer,
        evaluate_every=stretch, patience=10**6, threads=threads, seed=seed,
    )  # fmt: skip
    rows, held = lessons(files, questions, seed, folder, config.length)
    with TemporaryDirectory() as place:
        made = prepared(names, folder, rows, held, config, Path(place))
        in_turn(made, minutes)
    sides = {name: side for name, (_, side) in made.items()}
    told = {
        "command": ["python", *sys.argv],
        "made": time.strftime("%Y-%m-%d"),
        "threads": threads or torch.get_num_threads(),
        "bf16": has_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "rows": len(rows),
        "held_questions": sum(len(row.questions) for row in held),
        "config": asdict(config),
        "sides": {
            name: {"seconds": side.seconds, "questions_per_s": side.questions_per_s, **asdict(side)}
            for name, side in sides.items()
        },
        "against_trainer": {name: compared(sides["trainer"], sides[name]) for name in names[1:]},
    }
    out.write_text(json.dumps(told, indent=1), encoding="utf-8")
    draw(sides, out.with_suffix(".png"))
    click.echo(json.dumps(told["against_trainer"], indent=1))


if __name__ == "__main__":
    main()

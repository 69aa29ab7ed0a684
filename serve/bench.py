"""`featherdesk bench`: a bot as it is served, beside what a user could pick instead, in one run.

Says what was found as text, JSON, a page and a plot. Knows nothing of how it is measured (see
`measurement`).
"""

import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..agent.artifacts import Manifest
from ..agent.destination import check_destination
from ..agent.errors import FeatherdeskError

if TYPE_CHECKING:
    from .batches import Run
    from .measurement import Measurement

__all__ = ["bench"]

_FILE = click.Path(path_type=Path)
_LEFT_OUT = ("peer", "genai", "users", "seconds")
"""What has no part in a measurement of texts at once."""


def _batches(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """`1,8,32` as numbers."""
    if value and not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", value):
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,8,32")
    return tuple(dict.fromkeys(int(one) for one in value.split(",") if one))


@click.command()
@click.argument("bot", type=_FILE)
@click.option("--questions", type=_FILE, help="A test file [the bot's other wordings].")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--starts", type=click.IntRange(0), default=3, show_default=True, help="Of servers.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of every side [the bot's].")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--accept-refused", is_flag=True, help="Measure a bot that the gate refused.")
@click.option("--peer", type=_FILE, help="llama.cpp on this GGUF of the bot's model.")
@click.option("--other-weights", is_flag=True, help="The GGUF is meant to be another model.")
@click.option(
    "--sweep",
    "swept",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Questions to find llama.cpp's fastest settings with; 0: as it comes.",
)
@click.option("--peer-genai", "genai", is_flag=True, help="onnxruntime-genai on the bot's graph.")
@click.option("--peer-torch", "torch", is_flag=True, help="transformers on the merged model.")
@click.option("--torch-model", type=_FILE, help="Its folder [huggingface beside the bot].")
@click.option("--users", type=click.IntRange(0), default=0, help="Who ask at once, over HTTP.")
@click.option("--seconds", type=click.FloatRange(0), default=0.0, help="How long they ask.")
@click.option("--no-page", is_flag=True, help="Serve the API alone.")
@click.option(
    "--batches",
    default="",
    callback=_batches,
    metavar="1,8,32",
    help="Measure so many texts at once instead: reading and writing, tokens/s and bytes/s.",
)
@click.option("--read", type=click.IntRange(1), default=256, help="Of --batches: prompt tokens.")
@click.option("--write", type=click.IntRange(1), default=64, help="Of --batches: tokens after it.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of --batches.")
@click.option(
    "--generator", "generators", type=_FILE, multiple=True, help="Of --batches: one more."
)
@click.option("--out", type=_FILE, help="A folder for bench.json, bench.html and bench.png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    bot: Path,
    *,
    no_page: bool,
    batches: tuple[int, ...],
    read: int,
    write: int,
    rounds: int,
    generators: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Speed, memory and energy of a bot as it is served, beside llama.cpp and others.

    All sides are asked in turn, question by question, each in a process of its own; only replies
    that the model wrote count. With --batches the bot is not served: texts of equal length are
    read and written at once. Interrupted, it tells what it measured so far.
    """
    from ..agent.config import load_config
    from ..agent.cores import available_cores
    from .batches import Plan, Run
    from .measurement import Measurement
    from .wanted import Wanted

    if batches and any(settings[name] for name in _LEFT_OUT):
        raise click.UsageError("--batches takes --peer-torch alone; leave the other sides out")
    Manifest.load(bot)
    if out is not None:
        check_destination(out, bot)
    own = load_config(bot / "bot.toml").generation.threads
    settings["threads"] = settings["threads"] or own or available_cores()
    command = shlex.join(["featherdesk", *sys.argv[1:]])
    wanted = Wanted(bot, page=not no_page, command=command, **settings)
    plan = Plan(batches, read, write, rounds, generators)
    run = Run(wanted, plan) if batches else Measurement(wanted)
    try:
        with _ended_softly():
            run.run()
    except (KeyboardInterrupt, FeatherdeskError) as error:
        if run.found:
            _tell(run, out, as_json, str(error) or "interrupted")
        raise
    _tell(run, out, as_json, "")


def _tell(run: "Measurement | Run", out: Path | None, as_json: bool, stopped: str) -> None:
    from . import batch_report, bench_report
    from .outcome import Outcome

    found = run.outcome(stopped)
    if isinstance(found, Outcome):
        told = {**asdict(found), "bars": [asdict(bar) for bar in found.bars]}
        whole = json.dumps(told, indent=1, ensure_ascii=False)
        click.echo(whole if as_json else bench_report.table(found))
        if out is not None:
            bench_report.write_report(out, found)
    else:
        click.echo(batch_report.told(found) if as_json else batch_report.table(found))
        if out is not None:
            batch_report.write_report(out, found)


@contextmanager
def _ended_softly() -> Iterator[None]:
    """A request to end is taken as Ctrl-C: the children end, and what was found is told."""

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Measures generator folders: size, memory, speed at one and at eight users, answers, energy.

Each folder is opened by a child process of its own that imports no torch, so its memory is what
serving costs. Several folders are asked in turn, question by question, so that a busy machine
slows all of them alike: compare ratios of one run. MB are 10^6 bytes. Knows nothing of steps.

`python -m featherdesk.compress.measure GENERATOR... ROWS.jsonl` prints what it measured as JSON.
"""

import json
import math
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Protocol

import click

from ..agent.errors import ArtifactError, ConfigError, FeatherdeskError, InputError
from . import dataset
from .answers import Answer, Asked, asked_of, quality
from .dataset import Row
from .measured import Crowd, Measured, figure, spread
from .probe import Burst, Loaded, Surprise, Timed

__all__ = ["answers_of", "compare", "measure", "size_mb"]


def measure(generator: Path, rows: Sequence[Row], **settings: Any) -> Measured:
    """Measure one generator folder; settings and errors as in `compare`."""
    return compare([generator], rows, **settings)[0]


def compare(
    generators: Sequence[Path],
    rows: Sequence[Row],
    *,
    threads: int = 0,
    limit: int = 96,
    questions: int = 60,
    users: int = 8,
    command: str = "",
    progress: bool = True,
) -> list[Measured]:
    """Measure generator folders in one run, question by question in turn.

    Of the rows at most `questions` questions are asked (0: all), each answered greedily with at
    most `limit` tokens; `users` ask at once, 0 leaves that out. `threads` 0 takes every core.
    `command` is what a person runs to measure the same.

    Raises:
        FeatherdeskError: a folder is no generator, or its process died.
    """
    asked = _checked(rows, limit, questions)
    began = time.monotonic()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.jsonl"
        dataset.save(rows, place)
        subjects = [
            stack.enter_context(_child(folder, place, threads, limit, questions))
            for folder in generators
        ]
        raw = _drive(subjects, len(asked), users, progress=progress)
    seconds = round(time.monotonic() - began, 1)
    return [
        _summary(folder, one, asked, users, threads, seconds, command)
        for folder, one in zip(generators, raw, strict=True)
    ]


def answers_of(measured: Measured, rows: Sequence[Row]) -> list[Answer]:
    """The answers of a measurement, beside the rows that were asked."""
    known = {one.id: one for one in asked_of(rows)}
    return [Answer(known[one.id], one.text) for one in measured.timed if one.id in known]


def size_mb(folder: Path) -> float:
    """All files below a folder, in MB of 10^6 bytes: the tokenizer shrinks with the model."""
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 2)


class _Subject(Protocol):
    """A generator to be measured, here or in a child process."""

    def state(self) -> Loaded: ...
    def ask(self, number: int) -> Timed: ...
    def burst(self, numbers: Sequence[int]) -> Burst: ...
    def surprise(self, number: int) -> Surprise: ...


class _Raw:
    """What was seen of one subject."""

    def __init__(self) -> None:
        self.timed: list[Timed] = []
        self.bursts: list[Burst] = []
        self.surprises: list[Surprise] = []
        self.loaded = Loaded(0, 0, 0, 0, "")


def _drive(subjects: Sequence[_Subject], count: int, users: int, *, progress: bool) -> list[_Raw]:
    """Everything is asked of every subject before the next is, each time in another order: none
    always follows the same other, whose threads may still be at work.

    Memory is read before the answers that should be given are: no bot does that.
    """
    from ..agent.progress import track

    found = [_Raw() for _ in subjects]
    pairs = list(zip(subjects, found, strict=True))

    def turns(items: Sequence[Any], what: str) -> Iterator[tuple[Any, _Subject, _Raw]]:
        order = random.Random(0)
        for item in track(items, what) if progress else items:
            for subject, raw in order.sample(pairs, len(pairs)):
                yield item, subject, raw

    for number, subject, raw in turns(range(count), "asking"):
        raw.timed.append(subject.ask(number))
    for numbers, subject, raw in turns(_crowds(count, users), f"{users} users at once"):
        raw.bursts.append(subject.burst(numbers))
    for subject, raw in pairs:
        raw.loaded = subject.state()
    for number, subject, raw in turns(range(count), "perplexity"):
        raw.surprises.append(subject.surprise(number))
    return found


def _crowds(count: int, users: int) -> list[list[int]]:
    """Up to three groups of questions to be asked at once, spread over all of them."""
    if not users:
        return []
    groups = max(1, min(3, count // users))
    return [[(group + groups * n) % count for n in range(users)] for group in range(groups)]


def _summary(
    folder: Path,
    raw: _Raw,
    asked: Sequence[Asked],
    users: int,
    threads: int,
    seconds: float,
    command: str,
) -> Measured:
    nats = sum(one.nats for one in raw.surprises)
    answers = [Answer(one, told.text) for one, told in zip(asked, raw.timed, strict=True)]
    return Measured(
        generator=str(folder),
        size_mb=size_mb(folder),
        bare_mb=raw.loaded.bare_mb,
        resident_mb=raw.loaded.resident_mb,
        peak_mb=raw.loaded.peak_mb,
        load_s=raw.loaded.load_s,
        first_token_ms=spread([1e3 * one.first for one in raw.timed]),
        prefill=spread([one.prompt / one.first for one in raw.timed]),
        decode=spread([_decode(one) for one in raw.timed if one.tokens > 1]),
        characters=spread([figure(one, "rate") for one in raw.timed if one.text]),
        crowd=_crowd(raw.bursts, users) if raw.bursts else None,
        quality=quality(answers),
        perplexity=round(math.exp(nats / sum(one.tokens for one in raw.surprises)), 4),
        nats_per_character=round(nats / sum(one.characters for one in raw.surprises), 5),
        joules=spread([one.joules for one in raw.timed]),
        energy=raw.loaded.energy,
        questions=len(asked),
        threads=threads,
        seconds=seconds,
        command=command,
        timed=tuple(raw.timed),
    )


def _crowd(bursts: Sequence[Burst], users: int) -> Crowd:
    return Crowd(
        users=users,
        first_token_ms=spread([1e3 * first for one in bursts for first in one.firsts]),
        prefill=spread([one.prompts / one.reading for one in bursts]),
        decode=spread([one.tokens / one.writing for one in bursts if one.writing > 0]),
        characters=spread([one.characters / one.whole for one in bursts]),
    )


def _decode(one: Timed) -> float:
    return (one.tokens - 1) / max(one.whole - one.first, 1e-9)


def _checked(rows: Sequence[Row], limit: int, questions: int) -> list[Asked]:
    if limit < 1:
        raise ConfigError(f"measure: limit must be at least 1 token, not {limit}")
    asked = asked_of(rows, questions)
    if not asked:
        raise ConfigError("measure: no rows to ask; name held rows of the calibration data")
    return asked


class _Child:
    """A probe in a process of its own: a JSON list in, a JSON object out, a line each."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        self._folder, self._process = folder, process

    def state(self) -> Loaded:
        return Loaded(**self._call("state"))

    def ask(self, number: int) -> Timed:
        return Timed(**self._call("ask", number))

    def burst(self, numbers: Sequence[int]) -> Burst:
        told = self._call("burst", list(numbers))
        return Burst(**{**told, "firsts": tuple(told["firsts"])})

    def surprise(self, number: int) -> Surprise:
        return Surprise(**self._call("surprise", number))

    def _call(self, *order: object) -> dict[str, Any]:
        sent, answered = _pipes(self._process)
        try:
            sent.write(json.dumps(order) + "\n")
            sent.flush()
            line = answered.readline()
        except BrokenPipeError:
            line = answered.readline()
        if not line:
            raise FeatherdeskError(
                f"{self._folder}: its process ended with {self._process.wait()}; -9 is most often "
                "memory: close other programs and run the same command again"
            )
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise ArtifactError(told["error"])
        return told


@contextmanager
def _child(folder: Path, rows: Path, threads: int, limit: int, questions: int) -> Iterator[_Child]:
    command = [sys.executable, "-m", f"{__package__}.probe", str(folder), str(rows)]
    command += [str(number) for number in (threads, limit, questions)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield _Child(folder, process)
    finally:
        for pipe in _pipes(process):
            with suppress(BrokenPipeError):
                pipe.close()
        process.terminate()
        process.wait()


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@click.command()
@click.argument("places", metavar="GENERATOR... ROWS.jsonl", nargs=-1, required=True)
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True)
@click.option("--limit", type=click.IntRange(1), default=96, show_default=True)
@click.option("--questions", type=click.IntRange(0), default=60, show_default=True)
@click.option("--users", type=click.IntRange(0), default=8, show_default=True)
def _main(
    places: tuple[str, ...],
    *,
    threads: int,
    limit: int,
    questions: int,
    users: int,
) -> None:
    """Measure generator folders on held rows, in turn, and print a JSON list."""
    *folders, rows = map(Path, places)
    try:
        if not folders:
            raise ConfigError("name a generator folder before the rows")
        if not rows.is_file():
            raise InputError(rows, "no such file; the last argument is a .jsonl of rows")
        told = compare(
            folders,
            list(dataset.load(rows)),
            threads=threads,
            limit=limit,
            questions=questions,
            users=users,
            command=shlex.join(["python", "-m", f"{__package__}.measure", *sys.argv[1:]]),
        )
    except FeatherdeskError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps([asdict(one) for one in told], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    _main()

"""Opens one generator and times what it does; the child's side of `measure`.

Imports no torch, so that its memory is what serving costs. Knows nothing of other generators.
"""

import json
import resource
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..agent.energy import EnergyMeter
from ..agent.errors import FeatherdeskError
from ..agent.prompt import END_OF_TURN, render
from ..agent.runtime import OnnxGenerator
from . import dataset
from .answers import Asked, asked_of

__all__ = ["Burst", "Loaded", "Probe", "Surprise", "Timed", "follow"]

_PATIENCE = 3600.0
"""Seconds until an answer counts as stuck."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Resident memory (MB of 10^6 bytes) before opening, behind the first answer, and the peak."""

    bare_mb: float
    resident_mb: float
    peak_mb: float
    load_s: float
    energy: str


@dataclass(frozen=True, slots=True)
class Timed:
    """One greedy answer. Seconds from the question: `first` to the first token, `whole` to the
    last; `prompt` and `tokens` count what was read and written."""

    id: str
    text: str
    prompt: int
    tokens: int
    first: float
    whole: float
    joules: float


@dataclass(frozen=True, slots=True)
class Burst:
    """Several questions at once: each one's seconds to the first token, tokens and characters of
    all. `reading` are seconds until all prompts were read when nothing else was asked, `writing`
    the seconds in which at least one answer was being written, `whole` all of them."""

    firsts: tuple[float, ...]
    prompts: int
    tokens: int
    characters: int
    reading: float
    writing: float
    whole: float


@dataclass(frozen=True, slots=True)
class Surprise:
    """Nats of a written answer with its end of turn, over its tokens and characters."""

    nats: float
    tokens: int
    characters: int


class Probe:
    """A generator with its questions, numbered from 0."""

    def __init__(self, folder: Path, asked: Sequence[Asked], threads: int, limit: int) -> None:
        self._asked = asked
        self._limit = limit
        self._bare = _resident()
        began = time.monotonic()
        self._generator = OnnxGenerator(folder, threads)
        self._load = time.monotonic() - began
        self._meter = EnergyMeter()
        if asked:
            self._write(self._prompt(asked[0]), 2)
        self._resident = _resident()

    def state(self) -> Loaded:
        """Memory so far."""
        return Loaded(self._bare, self._resident, _peak(), round(self._load, 2), self._meter.method)

    def ask(self, number: int) -> Timed:
        """Answer one question, alone."""
        asked = self._asked[number]
        self._meter.lap()
        began = time.monotonic()
        ids = self._prompt(asked)
        marks, tokens = self._write(ids, self._limit)
        return Timed(
            id=asked.id,
            text=self._generator.decode(tokens).strip(),
            prompt=len(ids),
            tokens=len(tokens),
            first=marks[0] - began,
            whole=marks[-1] - began,
            joules=self._meter.lap(),
        )

    def burst(self, numbers: Sequence[int]) -> Burst:
        """Answer several questions that come at the same moment; one token of each first."""
        prompts = [self._prompt(self._asked[number]) for number in numbers]
        self._generator.expect_crowd()
        began, read = self._together(prompts, 1)
        reading = max(marks[-1] for marks, _ in read) - began
        began, told = self._together(prompts, self._limit)
        return Burst(
            firsts=tuple(marks[0] - began for marks, _ in told),
            prompts=sum(map(len, prompts)),
            tokens=sum(max(0, len(tokens) - 1) for _, tokens in told),
            characters=sum(len(self._generator.decode(tokens).strip()) for _, tokens in told),
            reading=reading,
            writing=_covered([(marks[0], marks[-1]) for marks, _ in told]),
            whole=max(marks[-1] for marks, _ in told) - began,
        )

    def surprise(self, number: int) -> Surprise:
        """How unlikely the generator finds the answer that should be given."""
        asked = self._asked[number]
        ids = self._prompt(asked)
        wanted = self._generator.encode(asked.question.target + END_OF_TURN)
        rows = self._generator.logits([*ids, *wanted])[len(ids) - 1 : -1].astype(np.float64)
        rows -= rows.max(-1, keepdims=True)
        told = rows[np.arange(len(wanted)), wanted] - np.log(np.exp(rows).sum(-1))
        return Surprise(-float(told.sum()), len(wanted), len(asked.question.target))

    def _prompt(self, asked: Asked) -> list[int]:
        """Blocks encoded one by one, as serving does."""
        question = asked.question
        blocks = render(asked.row.entries, question.text, question.history)
        return [token for text in blocks.texts for token in self._generator.encode(text)]

    def _write(self, ids: Sequence[int], limit: int) -> tuple[list[float], list[int]]:
        """When each token came (the end, where there is none), and the tokens."""
        marks, tokens = [], []
        deadline = time.monotonic() + _PATIENCE
        for step in self._generator.generate(
            ids, max_tokens=limit, deadline=deadline, stopped=lambda: False
        ):
            marks.append(time.monotonic())
            tokens.append(step.token)
        return marks or [time.monotonic()], tokens

    def _together(
        self, prompts: Sequence[Sequence[int]], limit: int
    ) -> tuple[float, list[tuple[list[float], list[int]]]]:
        """Starts all prompts at one moment, each in a thread of its own."""
        gate = threading.Barrier(len(prompts) + 1)

        def one(prompt: Sequence[int]) -> tuple[list[float], list[int]]:
            gate.wait()
            return self._write(prompt, limit)

        with ThreadPoolExecutor(len(prompts)) as pool:
            writing = [pool.submit(one, prompt) for prompt in prompts]
            gate.wait()
            began = time.monotonic()
            return began, [told.result() for told in writing]


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """The length that spans cover together."""
    total, end = 0.0, -np.inf
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return float(total)


def _resident() -> float:
    return _memory("VmRSS")


def _peak() -> float:
    return _memory("VmHWM")


def _memory(name: str) -> float:
    """A figure of this process in MB. Its own: `getrusage` keeps the peak of who started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        told = next(line for line in lines if line.startswith(name))
        return round(int(told.split()[1]) * 1024 / 1e6, 1)
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def follow(folder: Path, rows: Path, threads: int, limit: int, questions: int) -> None:
    """Do what lines of JSON on stdin ask, a line of JSON each, until they end."""
    try:
        probe = Probe(folder, asked_of(list(dataset.load(rows)), questions), threads, limit)
        for line in sys.stdin:
            name, *given = json.loads(line)
            print(json.dumps(asdict(getattr(probe, name)(*given))), flush=True)
    except FeatherdeskError as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    follow(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]))

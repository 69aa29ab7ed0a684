"""The child's side of `bench`: opens one generator and writes what lines of JSON ask for.

`python -m featherdesk.serve.contender KIND` reads a JSON list a line on stdin and answers with a
JSON object a line; a kind is `ours` or a peer's (see `peers`). Knows nothing of other contenders.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from ..agent.errors import FeatherdeskError, MissingExtraError

__all__ = ["Contender", "Marks", "Opened", "Ours", "Told", "Written", "follow"]

Settings = dict[str, Any]
_PATIENCE = 3600.0
"""Seconds until an answer counts as stuck."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a contender is: its version and build, threads it takes, seconds it took to open."""

    info: str
    threads: int
    load_s: float


@dataclass(frozen=True, slots=True)
class Written:
    """One greedy answer. Seconds from the prompt: `first` to the first token, `whole` to the last.

    `tokens` are without the end of turn. `steps` are forward steps from the one that gave the
    first token on, up to the one that ended the turn; `opening` are the tokens that came with the
    first of them; `fed` is what they and the reading took in; `hits` and `misses` count blocks
    found in the store. 0 is what a contender does not tell.
    """

    text: str
    tokens: int
    first: float
    whole: float
    ended: bool
    steps: int = 0
    fed: int = 0
    hits: int = 0
    misses: int = 0
    opening: int = 1


class Opened(Protocol):
    """Something that was opened, and does what it has methods for."""

    def told(self) -> Told:
        """What it is."""
        ...


class Contender(Opened, Protocol):
    """Something that writes answers to prompts of token ids."""

    def write(self, prompt: Settings) -> Written:
        """Answer a prompt (see `prompts.Prompt.order`) greedily."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, marks such as `<|im_end|>` as their own ids."""
        ...


class Marks:
    """Collects tokens and when they came."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.times: list[float] = []
        self.tokens: list[int] = []

    def add(self, token: int) -> None:
        """A token came now."""
        self.times.append(time.perf_counter() - self.began)
        self.tokens.append(token)

    def written(self, text: str, limit: int, **counts: int) -> Written:
        """The answer; where no token came, its end is the first thing seen."""
        times = self.times or [time.perf_counter() - self.began]
        ended = len(self.tokens) < limit
        return Written(text.strip(), len(self.tokens), times[0], times[-1], ended, **counts)


class Ours:
    """The bot's own generator, without HTTP: with or without stored blocks and lookup."""

    def __init__(self, settings: Settings) -> None:
        from ..agent.prefill import open_store
        from ..agent.runtime import OnnxGenerator

        bot = Path(settings["bot"])
        began = time.perf_counter()
        self._store = open_store(bot, settings["stored_mb"]) if settings["store"] else None
        self._threads = settings["threads"]
        self._lookup = settings["lookup"]
        self._generator = OnnxGenerator(
            bot / "generator", self._threads, settings["device"], self._store
        )
        self._load = time.perf_counter() - began

    def told(self) -> Told:
        """onnxruntime's version."""
        import onnxruntime

        info = f"onnxruntime {onnxruntime.__version__}, driven by featherdesk"
        return Told(info, self._threads, round(self._load, 2))

    def write(self, prompt: Settings) -> Written:
        """Answer a prompt greedily."""
        generator, store = self._generator, self._store
        tally = generator.scheduler.tally
        fed, before = tally.tokens, (0, 0) if store is None else (store.hits, store.misses)
        marks, at_first, opening = Marks(), 0, 0
        for step in generator.generate(
            prompt["ids"],
            max_tokens=prompt["limit"],
            deadline=time.monotonic() + _PATIENCE,
            stopped=lambda: False,
            blocks=prompt["blocks"],
            sources=prompt["sources"] if self._lookup else (),
        ):
            marks.add(step.token)
            at_first = at_first or tally.passes
            opening += tally.passes == at_first
        return marks.written(
            generator.decode(marks.tokens),
            prompt["limit"],
            steps=tally.passes - at_first + 1 if at_first else 1,
            fed=tally.tokens - fed,
            opening=opening,
            hits=0 if store is None else store.hits - before[0],
            misses=0 if store is None else store.misses - before[1],
        )

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self._generator.encode(text)

    def pace(self, lengths: Sequence[int]) -> dict[str, float]:
        """Milliseconds of a step by how many tokens it takes in at once, the best of five."""
        ids = self._generator.encode("How long does delivery take, and what does it cost? " * 40)
        told, tally = {}, self._generator.scheduler.tally
        for length in lengths:
            best = float("inf")
            for _ in range(5):
                before = tally.seconds
                self._generator.logits(ids[:length])
                best = min(best, tally.seconds - before)
            told[str(min(length, len(ids)))] = round(1000 * best, 3)
        return told


def follow(make: Callable[[Settings], Opened]) -> None:
    """Do what lines of JSON on stdin ask, until they end; whatever else is printed goes to stderr.

    `["open", settings]` comes first; then names of its methods with what they take.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us says when to end
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    contender: Any = None
    for line in sys.stdin:
        name, *given = json.loads(line)
        try:
            if name == "open":
                contender = make(*given)
                _say(answers, asdict(contender.told()))
            elif name == "tokens":
                _say(answers, {"ids": contender.tokens(*given)})
            else:
                told = getattr(contender, name)(*given)
                _say(answers, told if isinstance(told, dict) else asdict(told))
        except FeatherdeskError as error:
            _say(answers, {"error": str(error)})
        except (ValueError, RuntimeError, OSError) as error:  # what other runtimes raise
            _say(answers, {"error": f"{type(error).__name__}: {error}"})


def _say(answers: IO[str], told: object) -> None:
    answers.write(json.dumps(told) + "\n")
    answers.flush()


def _make(kind: str) -> Callable[[Settings], Opened]:
    if kind == "ours":
        return Ours
    from .at_once import AT_ONCE
    from .peers import PEERS

    kinds = {**PEERS, **AT_ONCE}

    def peer(settings: Settings) -> Opened:
        try:
            return kinds[kind].make(settings)
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or kind, kinds[kind].extra) from None

    return peer


if __name__ == "__main__":
    follow(_make(sys.argv[1]))

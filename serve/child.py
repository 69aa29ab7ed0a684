"""A contender in a process of its own, as the one who asks it sees it. It ends when we do.

Knows nothing of what is inside.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from ..agent.errors import FeatherdeskError
from .contender import Told, Written
from .prompts import Prompt

__all__ = ["Child", "command_of", "opened"]


def command_of(kind: str) -> list[str]:
    """How a contender of a kind is started."""
    return [sys.executable, "-m", f"{__package__}.contender", kind]


class Child:
    """A contender's process: a JSON list in, a JSON object out, a line each."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name, self._process = name, process
        self.told = Told("", 0, 0.0)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def open(self, settings: dict[str, Any]) -> None:
        """Have it open what it writes with.

        Raises:
            FeatherdeskError: it cannot.
        """
        self.told = Told(**self.call("open", settings))

    def write(self, prompt: Prompt) -> Written:
        """Its answer to a prompt."""
        return Written(**self.call("write", prompt.order()))

    def tokens(self, text: str) -> list[int]:
        """Its token ids of a text."""
        return list(self.call("tokens", text)["ids"])

    def call(self, *order: object) -> dict[str, Any]:
        """Give an order and take the answer.

        Raises:
            FeatherdeskError: it says what is wrong, or its process died.
        """
        sent, answered = _pipes(self._process)
        with suppress(BrokenPipeError):
            sent.write(json.dumps(order) + "\n")
            sent.flush()
        line = answered.readline()
        if not line:
            raise FeatherdeskError(
                f"{self.name}: its process ended with {self._process.wait()} (see above); -9 is "
                "most often memory: close other programs and run the same command again"
            )
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise FeatherdeskError(f"{self.name}: {told['error']}")
        return told


@contextmanager
def opened(name: str, command: Sequence[str], settings: dict[str, Any]) -> Iterator[Child]:
    """A child that has opened what it writes with; it is gone when the block ends.

    Raises:
        FeatherdeskError: it cannot open it.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        child = Child(name, process)
        child.open(settings)
        yield child
    finally:
        process.terminate()
        for pipe in _pipes(process):
            with suppress(BrokenPipeError):
                pipe.close()
        process.wait()


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout

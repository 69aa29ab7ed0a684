"""What a model writes to one question, released as far as the sources hold it.

Knows nothing of routes or of conversations.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .answers import KeptAnswer
from .errors import GenerationError
from .grounding import StreamGuard
from .prompt import REFUSAL, leaks
from .runtime import Generator, Step

__all__ = ["Draft"]


@dataclass(slots=True)
class Draft:
    """What the model writes to one question, and how far it may be released.

    `checked` counts the milliseconds that the guard took; `kept` says that it was written before.
    `shown` is what was released, `spent` the tokens of a text that was given up for another.
    """

    guard: StreamGuard
    prompt_tokens: int = 0
    raw: str = ""
    tokens: list[int] = field(default_factory=list)
    refused: bool = False
    failed: bool = False
    checked: float = 0.0
    kept: bool = False
    shown: str = ""
    spent: int = 0

    @property
    def good(self) -> bool:
        """Whether it may be sent whole."""
        return bool(self.raw.strip()) and not (self.refused or self.failed or self.guard.failed)

    def recalled(self, answer: KeptAnswer) -> Iterator[str]:
        """Take what was written to the same question before, and yield it at once.

        What was sent then is checked again, what was rejected stays so.
        """
        self.kept, self.raw = True, answer.text
        if answer.failed:
            self.guard.failed = answer.failed
            return
        began = time.perf_counter()
        whole = self.guard.feed(self.raw) + self.guard.finish()
        self.checked = (time.perf_counter() - began) * 1000
        if whole and not self.guard.failed:
            yield whole

    def again(self, guard: StreamGuard) -> None:
        """Give up what was written. What was shown stays: of a text that begins so the rest is
        released, of another nothing."""
        self.spent += len(self.tokens)
        self.guard, self.raw, self.tokens = guard, "", []

    def deltas(self, generator: Generator, steps: Iterator[Step]) -> Iterator[str]:
        """Take the model's steps and yield what may be shown."""
        released = ""
        try:
            for step in steps:
                self.tokens.append(step.token)
                if step.more:  # what came at once is looked at once
                    continue
                self.raw = generator.decode(self.tokens)
                self.refused = self.raw.startswith(REFUSAL)
                self.failed = leaks(self.raw)
                if self.refused or self.failed:
                    return
                if REFUSAL.startswith(self.raw):
                    continue
                began = time.perf_counter()
                delta = self.guard.feed(self.raw)
                self.checked += (time.perf_counter() - began) * 1000
                if self.guard.failed:
                    return
                released += delta
                yield from self._unseen(released)
        except GenerationError:
            self.failed = True
            return
        if self.raw and REFUSAL.startswith(self.raw):  # it ended there
            self.refused = 2 * len(self.raw) > len(REFUSAL)
            if self.refused:
                return
            released += self.guard.feed(self.raw)
        yield from self._unseen(released + self.guard.finish())

    def _unseen(self, released: str) -> Iterator[str]:
        if len(released) > len(self.shown) and released.startswith(self.shown):
            fresh, self.shown = released[len(self.shown) :], released
            yield fresh

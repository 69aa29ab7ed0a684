"""Takes names out of what was stored, in the background and off the reply's path.

What is stored is put down in an outbox in the same transaction; one thread works the outbox off
and a child process (`names`) does the recognizing, so that the serving process imports no spaCy.
Nothing is lost when either dies: what is left in the outbox is done at the next start. Knows
nothing of tables.
"""

import json
import logging
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .errors import FeatherdeskError, MissingExtraError
from .names import installed

__all__ = ["Finder", "NameFinder", "Queue", "Redactor", "Waiting", "public_words", "wanted"]

PATIENCE = 120.0
CLOSING = 5.0
_BATCH = 16
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A stored text that nobody has looked at for names yet."""

    id: int
    text: str


class Queue(Protocol):
    """Where stored texts wait; safe to use from several threads."""

    def waiting(self, limit: int) -> list[Waiting]:
        """The oldest that wait."""
        ...

    def settle(self, item: Waiting, text: str) -> None:
        """Put the text in its place, and take the item out."""
        ...


class Finder(Protocol):
    """Masks names in texts."""

    def masked(self, texts: Sequence[str]) -> list[str]:
        """The texts with names replaced, in order."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def wanted(setting: str) -> bool:
    """Whether names are to be taken out, under `storage.redact_names`.

    Raises:
        MissingExtraError: it is `on` and the extra is not installed.
    """
    if setting == "off":
        return False
    if not installed():
        if setting == "on":
            raise MissingExtraError("presidio-analyzer", "pii")
        log.info("names stay in stored conversations; featherdesk[pii] takes them out")
        return False
    return True


def public_words(entries: Path) -> list[str]:
    """The capitalized words of a bot's own entries, in lower case: they name no customer."""
    words: set[str] = set()
    try:
        lines = entries.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        words.update(word.lower() for word in re.findall(r"[^\W\d_a-z][\w'’-]+", line))
    return sorted(words)


@dataclass(slots=True)
class NameFinder:
    """The child process that recognizes names; started at first use, again when it died."""

    known: Sequence[str] = ()
    command: Sequence[str] = (sys.executable, "-m", "featherdesk.agent.names")
    patience: float = PATIENCE
    _process: "subprocess.Popen[str] | None" = None

    def masked(self, texts: Sequence[str]) -> list[str]:
        """The texts with names replaced, in order.

        Raises:
            FeatherdeskError: the child died, was too slow or answered something else.
        """
        request = json.dumps({"texts": list(texts), "known": list(self.known)})
        try:
            answer = json.loads(self._exchange(request))
            told = answer["texts"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            self.close()
            raise FeatherdeskError(
                f"names could not be recognized ({type(error).__name__}); "
                "reinstall featherdesk[pii] if this stays"
            ) from None
        if len(told) != len(texts) or not all(isinstance(text, str) for text in told):
            raise FeatherdeskError("names could not be recognized: another number of texts")
        return list(told)

    def _exchange(self, request: str) -> str:
        """One line there and one back; a child that takes too long is ended."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(self.patience, process.kill)
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            return process.stdout.readline()
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    log.debug("the pipe was closed already")
        process.wait()


@dataclass(slots=True)
class Redactor:
    """One thread that works an outbox off whenever it is woken."""

    outbox: Queue
    finder: Finder
    _more: threading.Event = field(default_factory=threading.Event)
    _until: float = math.inf
    _thread: threading.Thread | None = None

    def wake(self) -> None:
        """Say that something waits; returns at once."""
        self._more.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="redaction", daemon=True)
            self._thread.start()

    def close(self, seconds: float = CLOSING) -> None:
        """Work off what waits, for at most some seconds, and end the child."""
        self._until = time.monotonic() + seconds
        self._more.set()
        if self._thread is not None:
            self._thread.join(seconds)
        self.finder.close()
        if self._thread is not None:
            self._thread.join(1.0)

    def _work(self) -> None:
        while self._until == math.inf:
            self._more.wait()
            self._more.clear()
            try:
                while time.monotonic() < self._until and self._batch():
                    continue
            except FeatherdeskError as error:
                log.warning("stored texts wait for names to be taken out: %s", error)

    def _batch(self) -> bool:
        """Settle the oldest that wait; whether there may be more."""
        items = self.outbox.waiting(_BATCH)
        self._settle(items)
        return bool(items)

    def _settle(self, items: Sequence[Waiting]) -> None:
        """Mask and settle some texts; one that the finder dies of stays as it was stored."""
        if not items:
            return
        try:
            texts = self.finder.masked([item.text for item in items])
        except FeatherdeskError:
            if time.monotonic() >= self._until:
                raise
            if len(items) > 1:
                for item in items:
                    self._settle([item])
                return
            self.finder.masked(["."])
            log.warning("text %d is kept without a look for names", items[0].id)
            texts = [items[0].text]
        for item, text in zip(items, texts, strict=True):
            self.outbox.settle(item, text)

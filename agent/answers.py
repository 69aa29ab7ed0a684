"""Keeps what the model wrote, for the next customer who asks the same of the same entries.

Routing is not kept: a question finds its entries anew each time, so that an entry that has come
since is never hidden by an older answer. Held in memory only, least recently used goes first.
Knows nothing of models or of replies.
"""

import hashlib
import json
import sys
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from .privacy import masked
from .prompt import MAX_HISTORY
from .types import Entry, Turn

__all__ = ["AnswerCache", "KeptAnswer", "answer_key", "entry_version", "is_private", "normalized"]

_ENDS = " .!?…。！？"
_OVERHEAD = 700
"""Bytes that an answer takes beside its text: its key, its place, the names of its entries."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the model wrote from entries of these versions.

    A refusal was found less likely than `limit`. `failed` is what was not supported of a text
    that was rejected.
    """

    text: str
    limit: float
    versions: tuple[str, ...]
    failed: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """About the bytes it takes."""
        return _OVERHEAD + sum(sys.getsizeof(text) for text in (self.text, *self.failed))


class AnswerCache:
    """Answers by key, in at most `budget` bytes; threads may share it.

    `hits` and `misses` count what was asked for.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[str, KeptAnswer] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """About the bytes that are taken."""
        return self._size

    def get(self, key: str, limit: float) -> KeptAnswer | None:
        """A kept answer, or None.

        A refusal must reach `limit` to be taken: what was written below another limit also holds
        for a higher one, but says nothing of a lower one.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is None or found.limit > limit:
                self.misses += 1
                return None
            self._kept.move_to_end(key)
            self.hits += 1
            return found

    def add(self, key: str, answer: KeptAnswer) -> None:
        """Keep an answer, in the place of those that were not asked for longest."""
        with self._lock:
            self._drop(key)
            if answer.size > self.budget:
                return
            self._kept[key] = answer
            self._size += answer.size
            while self._size > self.budget:
                self._drop(next(iter(self._kept)))

    def keep(self, entries: Iterable[Entry]) -> None:
        """Drop the answers that were written from entries which are not among these."""
        known = {entry_version(entry) for entry in entries}
        with self._lock:
            stale = [key for key, one in self._kept.items() if not known.issuperset(one.versions)]
            for key in stale:
                self._drop(key)

    def _drop(self, key: str) -> None:
        gone = self._kept.pop(key, None)
        self._size -= gone.size if gone else 0


def normalized(question: str) -> str:
    """A question without what changes nothing: case, width, spacing, the marks at its end."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split()).rstrip(_ENDS)


def entry_version(entry: Entry) -> str:
    """Names an entry with all it says, wherever it was read from."""
    told = {name: value for name, value in asdict(entry).items() if name != "source"}
    return _digest(told)


def answer_key(
    model: str, question: str, language: str, history: Sequence[Turn], versions: Sequence[str]
) -> str:
    """Names an answer by what it depends on: `model` stands for the generator and its settings;
    of the history the turns count that the model reads."""
    turns = [(turn.role, turn.content) for turn in history[-MAX_HISTORY:]]
    return _digest([model, normalized(question), language, turns, list(versions)])


def is_private(question: str, history: Sequence[Turn], entries: Sequence[Entry]) -> bool:
    """Whether personal data stands in what is asked, other than what the entries say themselves."""
    public = [entry.answer for entry in entries]
    return any(masked(text, public) != text for text in (question, *(t.content for t in history)))


def _digest(told: object) -> str:
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

"""Feeds several requests in one step: which go through the graph together, and which alone.

Where the decoder has slots, a crowd shares passes whatever each of them brings. Elsewhere attention
takes several rows only where each brings one token: those that write share a pass; a
prompt, or a token with guesses behind it, has a pass of its own. Knows nothing of queues, prompts,
tokens that are chosen, or onnxruntime.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import GenerationError

__all__ = ["CHUNK", "CROWD", "Batch", "Feed", "Passes", "Request", "Tally", "Work", "in_chunks"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
Logits = NDArray[np.float32]

CHUNK = 64
"""Tokens of prompts that are read in a step, so that who writes is not kept waiting."""

CROWD = 3
"""So many share a pass: two are read as fast one after the other, for slots that stand empty cost
a little too."""

_APART = 2
"""Rows between two that are fed together, at most: more are dearer than a pass of their own."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to be taken in behind `past` places: of a prompt (`reading`), or to be kept (`kept`).

    A single token behind a prompt may be fed together with those of others. `last` of them need
    logits, the last ones; 0 for all.
    """

    tokens: tuple[int, ...]
    past: int
    reading: bool = False
    kept: bool = False
    last: int = 0


Work = Generator[Feed, Logits, None]
"""What a request does: gives feeds, and is sent the logits (tokens that need them, vocabulary) of
each. They stand only until the next feed."""


def in_chunks(
    ids: Sequence[int], past: int, company: Callable[[], int], *, kept: bool = False
) -> Generator[Feed, Logits, tuple[tuple[int, ...], int]]:
    """Read tokens but for the last chunk; returns that and its place.

    `company` tells how many are served: who is alone keeps nobody waiting, so there is one chunk.
    """
    rest = tuple(ids)
    while company() > 1 and len(rest) > CHUNK:
        yield Feed(rest[:CHUNK], past, reading=True, kept=kept, last=1)
        rest, past = rest[CHUNK:], past + CHUNK
    return rest, past


class Passes(Protocol):
    """What the scheduler needs of a decoder; see `decoder.Decoder`."""

    @property
    def movable(self) -> bool: ...
    @property
    def rows(self) -> int: ...
    @property
    def slots(self) -> int: ...
    def prepare(self) -> None: ...
    def give_up(self) -> None: ...
    def reserve(self, rows: int, room: int) -> None: ...
    def release(self) -> None: ...
    def alone(
        self, row: int, tokens: Sequence[int], past: int, *, kept: bool = False, last: int = 0
    ) -> Logits: ...
    def together(self, first: int, feeds: Sequence[tuple[int, int] | None]) -> Logits: ...
    def several(
        self, feeds: Mapping[int, tuple[Sequence[int], int, int]]
    ) -> Mapping[int, Logits]: ...
    def staged(self, row: int) -> bool: ...
    def move(self, row: int, to: int) -> None: ...
    def clear(self, row: int) -> None: ...


@dataclass(slots=True)
class Tally:
    """What was done since the start. `passes` over the graph took `seconds` and fed `tokens` of
    `rows` requests in all; `waited` are the seconds that `admitted` requests spent in the queue;
    `refused` found it full."""

    passes: int = 0
    seconds: float = 0.0
    tokens: int = 0
    rows: int = 0
    admitted: int = 0
    waited: float = 0.0
    refused: int = 0


@dataclass(slots=True, eq=False)
class Request(Generic[T]):
    """One that waits or is served; its work puts items and may ask for its row."""

    make: Callable[["Request[T]"], Work]
    room: int
    deadline: float
    stopped: Callable[[], bool]
    user: str
    order: float
    turn: threading.Condition
    since: float = field(default_factory=time.monotonic)
    row: int = -1
    work: Work | None = None
    feed: Feed | None = None
    items: deque[T] = field(default_factory=deque)
    waits: bool = False
    ended: bool = False
    error: Exception | None = None

    def put(self, item: T) -> None:
        """Give the one who asked an item."""
        self.items.append(item)

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self.error, self.ended = error, True


class Batch(Generic[T]):
    """Requests, each in its row of a decoder.

    `timed` is told of the tokens and seconds of passes that read no prompt.
    """

    def __init__(self, passes: Passes, timed: Callable[[int, float], None]) -> None:
        self._passes, self._timed = passes, timed
        self.tally = Tally()

    def begin(self, request: Request[T], rows: int) -> None:
        """Let a request with a row start; `rows` is how many there may be in all."""
        try:
            self._passes.reserve(1 if request.row == 0 else rows, request.room)
        except (GenerationError, MemoryError) as error:
            request.fail(GenerationError(str(error) or "not enough memory for the answer"))
            return
        request.work = request.make(request)
        self._resume(request, None)

    def end(self, request: Request[T], *, last: bool) -> None:
        """Free the row of a request; after the `last` one the places of a crowd are given back."""
        if request.work is not None:
            request.work.close()
        self._passes.clear(request.row)
        if last and self._passes.rows > 1 and self._passes.movable:
            self._passes.release()

    def step(self, seated: Sequence[Request[T]]) -> None:
        """Everybody gets on, in this order: by one token, a guess, or a part of what it reads."""
        self._close_ranks(seated)
        fed = _in_turn(seated)
        if CROWD <= len(fed) > sum(self._shares(one) for one, _ in fed):
            fed = self._fed_in_slots(fed)
        single = [one for one, _ in fed if self._shares(one)]
        for group in _neighbours(single, self._passes.staged):
            self._feed_together(group)
        for one, feed in fed:
            if one not in single:
                self._feed_alone(one, feed)

    def _close_ranks(self, seated: Sequence[Request[T]]) -> None:
        """Rows that were left are filled from the end, so that few are fed for nothing."""
        while self._passes.movable and seated:
            last = max(seated, key=lambda one: one.row)
            taken = {one.row for one in seated}
            free = next((row for row in range(last.row) if row not in taken), None)
            if free is None:
                return
            self._passes.move(last.row, free)
            last.row = free

    def _shares(self, request: Request[T]) -> bool:
        feed = request.feed
        single = feed is not None and len(feed.tokens) == 1 and not feed.reading
        return single and not self._passes.staged(request.row)

    def _feed_together(self, group: Sequence[Request[T]]) -> None:
        if len(group) == 1 and group[0].feed is not None:
            self._feed_alone(group[0], group[0].feed)
            return
        first = group[0].row
        feeds: list[tuple[int, int] | None] = [None] * (group[-1].row - first + 1)
        for one in group:
            feeds[one.row - first] = (one.feed.tokens[0], one.feed.past) if one.feed else None
        rows = self._passed(group, len(group), lambda: self._passes.together(first, feeds))
        if rows is not None:
            for one in group:
                self._resume(one, rows[one.row - first : one.row - first + 1])

    def _fed_in_slots(
        self, fed: Sequence[tuple[Request[T], Feed]]
    ) -> list[tuple[Request[T], Feed]]:
        """Feed those of whom enough share a group of slots; the others are left."""
        self._passes.prepare()
        slots, left = self._passes.slots, list(fed)
        for first in range(0, self._passes.rows, slots) if slots else ():
            group = [told for told in fed if first <= told[0].row < first + slots]
            if len(group) >= CROWD:
                self._feed_several(group)
                left = [told for told in left if told not in group]
        return left

    def _feed_several(self, group: Sequence[tuple[Request[T], Feed]]) -> None:
        feeds = {
            one.row: (feed.tokens, feed.past, feed.last or len(feed.tokens)) for one, feed in group
        }
        requests = [one for one, _ in group]
        tokens = sum(len(feed.tokens) for _, feed in group)
        reading = any(feed.reading for _, feed in group)
        try:
            rows = self._counted(
                requests, tokens, lambda: self._passes.several(feeds), reading=reading
            )
        except Exception as error:  # noqa: BLE001 one of them spoils it: alone the others get on
            _log.warning("a pass for %d customers failed: %s", len(group), error)
            for one, feed in group:
                self._feed_alone(one, feed)
            if not any(one.error for one in requests):
                self._passes.give_up()
            return
        for one in requests:
            self._resume(one, rows[one.row])

    def _feed_alone(self, request: Request[T], feed: Feed) -> None:
        rows = self._passed(
            [request],
            len(feed.tokens),
            lambda: self._passes.alone(
                request.row, feed.tokens, feed.past, kept=feed.kept, last=feed.last
            ),
            reading=feed.reading,
        )
        if rows is not None:
            self._resume(request, rows)

    def _passed(
        self,
        requests: Sequence[Request[T]],
        tokens: int,
        run: Callable[[], Logits],
        *,
        reading: bool = False,
    ) -> Logits | None:
        """A pass for some requests; when it fails they get the error, each in its own thread."""
        try:
            return self._counted(requests, tokens, run, reading=reading)
        except Exception as error:  # noqa: BLE001 onnxruntime's have no base of their own
            for one in requests:
                one.fail(GenerationError(f"the generator failed: {error}"))
            return None

    def _counted(
        self, requests: Sequence[Request[T]], tokens: int, run: Callable[[], R], *, reading: bool
    ) -> R:
        """A pass, timed and taken into the tally."""
        began = time.perf_counter()
        rows = run()
        seconds = time.perf_counter() - began
        if not reading:
            self._timed(tokens, seconds)
        self.tally.passes += 1
        self.tally.seconds += seconds
        self.tally.tokens += tokens
        self.tally.rows += len(requests)
        return rows

    def _resume(self, request: Request[T], rows: Logits | None) -> None:
        """Let the work go on; what it raises is raised where its items are taken."""
        assert request.work is not None
        try:
            request.feed = next(request.work) if rows is None else request.work.send(rows)
        except StopIteration:
            request.ended = True
        except Exception as error:  # noqa: BLE001 it is another thread's
            request.fail(error)
        if request.items or request.ended:
            with request.turn:
                request.turn.notify()


def _in_turn(seated: Sequence[Request[T]]) -> list[tuple[Request[T], Feed]]:
    """Who is fed in this step: all that write, and of those that read as many as a chunk takes."""
    fed, left = [], CHUNK
    for one in seated:
        feed = one.feed
        if feed is None or one.ended:
            continue
        if feed.reading:
            if left < CHUNK and len(feed.tokens) > left:
                continue
            left -= len(feed.tokens)
        fed.append((one, feed))
    return fed


def _neighbours(
    requests: Sequence[Request[T]], staged: Callable[[int], bool]
) -> Iterator[list[Request[T]]]:
    """Those whose rows lie close enough to be fed in one pass, by row; none of the rows between
    is staged."""
    group: list[Request[T]] = []
    for one in sorted(requests, key=lambda one: one.row):
        between = range(group[-1].row + 1, one.row) if group else range(0)
        if len(between) > _APART or any(map(staged, between)):
            yield group
            group = []
        group.append(one)
    if group:
        yield group

"""Runs the work of several requests over one decoder: who comes next, and what is fed together.

Continuous batching (Yu et al., "Orca", OSDI 2022): requests come and go between passes, whatever
the others are doing. Requests wait in a bounded queue; each that its user has unfinished puts a
further one back, so that nobody is starved. There is no thread of its own: of the threads that wait
for their tokens one leads, and makes the next step for all; when it has what it came for, another
does. Knows nothing of prompts, tokens that are chosen, or onnxruntime.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import BusyError, GenerationError

__all__ = ["CHUNK", "Feed", "Passes", "Request", "Scheduler", "Tally", "Work"]

T = TypeVar("T")
Logits = NDArray[np.float32]

CHUNK = 64
"""Tokens of prompts that are read in a step, so that who writes is not kept waiting."""

_APART = 2
"""Rows between two that are fed together, at most: more are dearer than a pass of their own."""

_LONGEST_WAIT = 60


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to be taken in behind `past` places: of a prompt (`reading`), or to be kept (`kept`).

    A single token behind a prompt may be fed together with those of others.
    """

    tokens: tuple[int, ...]
    past: int
    reading: bool = False
    kept: bool = False


Work = Generator[Feed, Logits, None]
"""What a request does: gives feeds, and is sent the logits (tokens, vocabulary) of each. They
stand only until the next feed."""


class Passes(Protocol):
    """What the scheduler needs of a decoder; see `decoder.Decoder`."""

    @property
    def movable(self) -> bool: ...
    @property
    def rows(self) -> int: ...
    def reserve(self, rows: int, room: int) -> None: ...
    def release(self) -> None: ...
    def alone(
        self, row: int, tokens: Sequence[int], past: int, *, kept: bool = False
    ) -> Logits: ...
    def together(self, first: int, feeds: Sequence[tuple[int, int] | None]) -> Logits: ...
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


class Scheduler(Generic[T]):
    """At most `seats` requests are served at a time; at most `bound` others wait.

    One user may take half of the places to wait. `timed` is told of the tokens and seconds of
    passes that read no prompt.
    """

    def __init__(
        self,
        passes: Passes,
        seats: int,
        bound: int,
        timed: Callable[[int, float], None] = lambda _tokens, _seconds: None,
    ) -> None:
        self._passes, self._seats, self._bound, self._timed = passes, seats, bound, timed
        self._lock = threading.Lock()
        self._queue: list[Request[T]] = []
        self._seated: list[Request[T]] = []
        self._leading = False
        self._arrivals = 0
        self._served = 1.0
        self.tally = Tally()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def company(self) -> int:
        """Requests that are served now."""
        return len(self._seated)

    def run(
        self,
        make: Callable[[Request[T]], Work],
        room: int,
        *,
        deadline: float = math.inf,
        stopped: Callable[[], bool] = lambda: False,
        user: str = "",
    ) -> Iterator[T]:
        """The items that the work of a request puts; it may use `room` places of its row.

        The place is free as soon as the iterator is closed, `stopped` says so or the `deadline`
        (a `time.monotonic()` value) has passed.

        Raises:
            BusyError: too many wait already.
            GenerationError: the deadline passed, or the decoder failed.
        """
        request = self._entered(make, room, deadline, stopped, user)
        try:
            while self._has_item(request):
                yield request.items.popleft()
        finally:
            self._leave(request)

    def _entered(
        self,
        make: Callable[[Request[T]], Work],
        room: int,
        deadline: float,
        stopped: Callable[[], bool],
        user: str,
    ) -> Request[T]:
        with self._lock:
            queued = sum(one.user == user for one in self._queue) if user else 0
            open_seat = not self._queue and len(self._seated) < self._seats
            if not open_seat and (len(self._queue) >= self._bound or queued * 2 >= self._bound > 1):
                self.tally.refused += 1
                raise BusyError(len(self._queue), self._patience())
            own = queued + (sum(one.user == user for one in self._seated) if user else 0)
            self._arrivals += 1
            order = self._arrivals + own * self._seats
            turn = threading.Condition(self._lock)
            request = Request(make, room, deadline, stopped, user, order, turn)
            self._queue.append(request)
            return request

    def _patience(self) -> int:
        """Seconds until the queue has moved on, at the pace of those served before."""
        seconds = (len(self._queue) + 1) * self._served / self._seats
        return min(_LONGEST_WAIT, max(1, math.ceil(seconds)))

    def _has_item(self, request: Request[T]) -> bool:
        while not self._told(request):
            try:
                self._step()
            finally:
                with self._lock:
                    self._leading = False
                    self._dismiss()
                    self._hand_over()
        if request.items:
            return True
        if request.error is not None:
            raise request.error
        return False

    def _told(self, request: Request[T]) -> bool:
        """Wait until there is something for the request, or until it must lead (False)."""
        with self._lock:
            request.waits = True
            while self._leading and not (request.items or request.ended):
                request.turn.wait()
            request.waits = False
            if request.items or request.ended:
                return True
            self._leading = True
            return False

    def _hand_over(self) -> None:
        for one in (*self._seated, *self._queue):
            if one.waits and not (one.items or one.ended):
                one.turn.notify()
                return

    def _leave(self, request: Request[T]) -> None:
        with self._lock:
            request.ended = True
            if not self._leading:
                self._dismiss()
                self._hand_over()

    def _dismiss(self) -> None:
        """Those that ended, were given up or are late free their places."""
        now = time.monotonic()
        for one in (*self._seated, *self._queue):
            if not one.ended and one.stopped():
                one.ended = True
            if not one.ended and now > one.deadline:
                busy = "" if one.work else ": the generator was busy"
                one.fail(GenerationError(f"the answer took too long{busy}"))
            if one.ended:
                self._gone(one, now)

    def _gone(self, request: Request[T], now: float) -> None:
        if request in self._queue:
            self._queue.remove(request)
        else:
            self._seated.remove(request)
            self._served += 0.1 * (now - request.since - self._served)
            self._passes.clear(request.row)
        if request.work is not None:
            request.work.close()
        alone = not self._seated and not self._queue
        if alone and self._passes.rows > 1 and self._passes.movable:
            self._passes.release()  # only a crowd needs it
        request.turn.notify()

    def _step(self) -> None:
        """Whoever has a seat gets on: by one token, a guess, or a part of what it reads."""
        with self._lock:
            self._dismiss()
            fresh = self._admitted()
        for one in fresh:
            self._begin(one)
        self._close_ranks()
        fed = [one for one in self._seated if one.feed and not one.ended]
        single = [one for one in fed if self._shares(one)]
        for group in _neighbours(single):
            self._feed_together(group)
        left = CHUNK
        for one in fed:
            feed = one.feed
            if one in single or feed is None:
                continue
            if feed.reading:
                if left < CHUNK and len(feed.tokens) > left:
                    continue
                left -= len(feed.tokens)
            self._feed_alone(one, feed)

    def _admitted(self) -> list[Request[T]]:
        fresh = []
        now = time.monotonic()
        while self._queue and len(self._seated) < self._seats:
            one = min(self._queue, key=lambda other: other.order)
            self._queue.remove(one)
            self._seated.append(one)
            taken = {other.row for other in self._seated}
            one.row = next(row for row in range(self._seats) if row not in taken)
            self.tally.admitted += 1
            self.tally.waited += now - one.since
            one.since = now
            fresh.append(one)
        return fresh

    def _begin(self, request: Request[T]) -> None:
        try:
            self._passes.reserve(1 if request.row == 0 else self._seats, request.room)
        except (GenerationError, MemoryError) as error:
            request.fail(GenerationError(str(error) or "not enough memory for the answer"))
            return
        request.work = request.make(request)
        self._resume(request, None)

    def _close_ranks(self) -> None:
        """Rows that were left are filled from the end, so that few are fed for nothing."""
        while self._passes.movable and self._seated:
            last = max(self._seated, key=lambda one: one.row)
            taken = {one.row for one in self._seated}
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

    def _feed_alone(self, request: Request[T], feed: Feed) -> None:
        rows = self._passed(
            [request],
            len(feed.tokens),
            lambda: self._passes.alone(request.row, feed.tokens, feed.past, kept=feed.kept),
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
        began = time.perf_counter()
        try:
            rows = run()
        except Exception as error:  # noqa: BLE001 onnxruntime's have no base of their own
            for one in requests:
                one.fail(GenerationError(f"the generator failed: {error}"))
            return None
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
            with self._lock:
                request.turn.notify()


def _neighbours(requests: Sequence[Request[T]]) -> Iterator[list[Request[T]]]:
    """Those whose rows lie close enough to be fed in one pass, by row."""
    group: list[Request[T]] = []
    for one in sorted(requests, key=lambda one: one.row):
        if group and one.row - group[-1].row > _APART + 1:
            yield group
            group = []
        group.append(one)
    if group:
        yield group

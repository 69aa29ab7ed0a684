"""Who may use the generator, and when: a fair, bounded queue before a batch of requests.

Continuous batching (Yu et al., "Orca", OSDI 2022): requests come and go between steps, whatever
the others are doing. Each request that its user has unfinished puts a further one back, so that
nobody is starved. There is no thread of its own: of the threads that wait for their tokens one
leads, and makes the next step for all; when it has what it came for, another does. Knows nothing
of what is fed.
"""

import math
import threading
import time
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from .batch import Batch, Passes, Request, Tally, Work
from .errors import BusyError, GenerationError

__all__ = ["Scheduler"]

T = TypeVar("T")
_LONGEST_WAIT = 60


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
        self._batch: Batch[T] = Batch(passes, timed)
        self._seats, self._bound = seats, bound
        self._lock = threading.Lock()
        self._queue: list[Request[T]] = []
        self._seated: list[Request[T]] = []
        self._leading = False
        self._arrivals = 0
        self._served = 1.0

    @property
    def tally(self) -> Tally:
        """What was done since the start."""
        return self._batch.tally

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
    ) -> Generator[T, None, None]:
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
            beyond = len(self._seated) + len(self._queue) - self._seats  # who has no seat to take
            if beyond >= 0 and (beyond >= self._bound or queued * 2 >= self._bound > 1):
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
            self._batch.end(request, last=not self._seated and not self._queue)
        request.turn.notify()

    def _step(self) -> None:
        with self._lock:
            self._dismiss()
            fresh = self._admitted()
        for one in fresh:
            self._batch.begin(one, self._seats)
        self._batch.step(self._seated)

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

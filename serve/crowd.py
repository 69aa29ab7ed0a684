"""Many users at once: each asks, waits for the answer and asks the next, in a process of its own.

`python -m featherdesk.serve.crowd` reads a JSON object on stdin (`url`, `users`, `seconds`,
`questions`) and prints what the users saw. Knows nothing of who serves.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np

from ..agent.errors import FeatherdeskError
from ..agent.types import Turn
from .machine import resident_mb
from .prompts import Prompt
from .served import Busy, Server, ask

__all__ = ["Crowd", "crowd", "queue"]

_Asked = tuple[str, list[tuple[Literal["user", "assistant"], str]]]
_LONGEST_PAUSE = 5.0
_LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Crowd:
    """What `users` saw: answers a second, waits in ms from asking to the last word (tries that
    were sent away included), 503 with and without Retry-After, other errors by what they said.

    `model` counts replies that the model wrote. Memory in MB: before, at the end, the most, and
    whether the last quarter's median lies within 3 % of the second's.
    """

    users: int
    answers: int
    model: int
    seconds: float
    answers_a_second: float
    p50_ms: float
    p95_ms: float
    first_p50_ms: float
    first_p95_ms: float
    busy: int = 0
    busy_without_retry_after: int = 0
    errors: dict[str, int] | None = None
    before_mb: float = 0.0
    end_mb: float = 0.0
    most_mb: float = 0.0
    flat: bool | None = None


def crowd(server: Server, users: int, prompts: Sequence[Prompt], *, seconds: float = 0.0) -> Crowd:
    """Drive a server with users from another process: for `seconds`, else each prompt once.

    Raises:
        FeatherdeskError: no question was answered.
    """
    order = {
        "url": server.url,
        "users": users,
        "seconds": seconds,
        "questions": [[p.question, [[t.role, t.content] for t in p.history]] for p in prompts],
    }
    before = resident_mb(server.pid)
    command = [sys.executable, "-m", f"{__package__}.crowd"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen: list[float] = []
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(server.pid, seen, over))
    watching.start()
    try:
        said, _ = process.communicate(json.dumps(order))
    finally:
        process.kill()
        process.wait()
        over.set()
        watching.join()
    if process.returncode or not said:
        raise FeatherdeskError(f"the users' process ended with {process.returncode} (see above)")
    told = json.loads(said)
    if not told["waits"]:
        raise FeatherdeskError(f"{users} users: no question was answered: {told['errors']}")
    return _crowd(users, told, before, seen)


def queue(users: int, services: Sequence[float]) -> Crowd:
    """What as many users see of one who answers in turn and takes `services` seconds for each."""
    served = list(accumulate(services, initial=0.0))
    waits = [served[end] - served[max(0, end - users)] for end in range(1, len(served))]
    told = {"waits": waits, "firsts": waits, "model": len(waits), "seconds": served[-1]}
    return _crowd(users, told, 0.0, [])


def _watch(pid: int, seen: list[float], over: threading.Event) -> None:
    while not over.wait(_LOOK):
        seen.append(resident_mb(pid))


def _crowd(users: int, told: dict[str, object], before: float, seen: Sequence[float]) -> Crowd:
    waits, firsts = (np.array(told[name], float) * 1000 for name in ("waits", "firsts"))
    seconds = float(str(told["seconds"]))
    errors = told.get("errors")
    return Crowd(
        users=users,
        answers=len(waits),
        model=int(str(told["model"])),
        seconds=round(seconds, 2),
        answers_a_second=round(len(waits) / max(seconds, 1e-9), 3),
        p50_ms=_quantile(waits, 0.5),
        p95_ms=_quantile(waits, 0.95),
        first_p50_ms=_quantile(firsts, 0.5),
        first_p95_ms=_quantile(firsts, 0.95),
        busy=int(str(told.get("busy", 0))),
        busy_without_retry_after=int(str(told.get("busy_without", 0))),
        errors=dict(errors) if isinstance(errors, dict) else {},
        before_mb=before,
        end_mb=seen[-1] if seen else 0.0,
        most_mb=max(seen, default=0.0),
        flat=_flat(seen),
    )


def _quantile(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", at: float) -> float:
    return round(float(np.quantile(values, at)), 1) if len(values) else 0.0


def _flat(seen: Sequence[float]) -> bool | None:
    """Whether memory stays; None where there are under a minute's looks."""
    if len(seen) < 60 / _LOOK:
        return None
    quarter = len(seen) // 4
    second, last = np.median(seen[quarter : 2 * quarter]), np.median(seen[-quarter:])
    return bool(last <= 1.03 * second)


class _Users:
    """The users' side."""

    def __init__(self, url: str, questions: Sequence[_Asked], seconds: float) -> None:
        self._url, self._questions = url, questions
        self._until = time.monotonic() + seconds if seconds else 0.0
        self._next = 0
        self._lock = threading.Lock()
        self.waits: list[float] = []
        self.firsts: list[float] = []
        self.model = self.busy = self.busy_without = 0
        self.errors: dict[str, int] = {}

    def user(self) -> None:
        """Ask one question after the other."""
        while (question := self._take()) is not None:
            self._ask(question)

    def _take(self) -> _Asked | None:
        with self._lock:
            place, self._next = self._next, self._next + 1
        over = time.monotonic() > self._until if self._until else place >= len(self._questions)
        return None if over else self._questions[place % len(self._questions)]

    def _ask(self, asked: _Asked) -> None:
        question, history = asked
        turns = [Turn(*turn) for turn in history]
        began = time.monotonic()
        while True:
            sent = time.monotonic()
            try:
                heard = ask(self._url, question, turns)
            except Busy as busy:
                with self._lock:
                    self.busy += 1
                    self.busy_without += busy.retry_after is None
                time.sleep(min(_LONGEST_PAUSE, busy.retry_after or 1.0))
                if self._until and time.monotonic() > self._until:
                    return
                continue
            except FeatherdeskError as error:
                with self._lock:
                    self.errors[str(error)] = self.errors.get(str(error), 0) + 1
                return
            with self._lock:
                self.waits.append(sent - began + heard.whole)
                self.firsts.append(sent - began + heard.first)
                self.model += heard.author == "model"
            return


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us says when to end
    told = json.loads(sys.stdin.read())
    began = time.monotonic()
    users = _Users(told["url"], told["questions"], told["seconds"])
    threads = [threading.Thread(target=users.user) for _ in range(told["users"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = {
        name: getattr(users, name)
        for name in ("waits", "firsts", "model", "busy", "busy_without", "errors")
    }
    print(json.dumps({**seen, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    _main()

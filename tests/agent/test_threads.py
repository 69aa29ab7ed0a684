"""Blocking work for async code: what happens when nobody waits for it any more."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from featherdesk.agent.cores import available_cores
from featherdesk.agent.errors import BusyError
from featherdesk.agent.threads import Stopped, iterated, side_by_side


def test_what_fails_behind_a_customer_who_left_is_not_logged_as_an_error() -> None:
    resumed, left, failed = threading.Event(), threading.Event(), threading.Event()
    heard: list[dict[str, Any]] = []

    def work(stopped: Stopped) -> Iterator[int]:
        yield 1
        resumed.set()
        left.wait(30)
        failed.set()
        raise BusyError(3, 1.0)

    async def customer() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: heard.append(told))
        async for _ in (items := iterated(work)):
            await asyncio.to_thread(resumed.wait, 30)  # who leaves before ends the work there
            break
        await items.aclose()
        left.set()
        await asyncio.to_thread(failed.wait, 30)
        for _ in range(20):  # the loop hears of it, and then nothing holds the future
            await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(customer())
    assert failed.is_set()
    assert not heard


def test_what_fails_while_somebody_waits_reaches_them() -> None:
    def work(stopped: Stopped) -> Iterator[int]:
        yield 1
        raise BusyError(3, 1.0)

    async def customer() -> list[int]:
        return [item async for item in iterated(work)]

    with pytest.raises(BusyError):
        asyncio.run(customer())


def test_calls_side_by_side_run_at_once_and_answer_in_their_order() -> None:
    met = threading.Barrier(2, timeout=30)

    def here(name: str) -> str:
        met.wait()
        return name

    assert side_by_side(lambda: here("a"), lambda: here("b")) == ("a", "b")


def test_where_every_thread_is_busy_the_caller_does_it_itself() -> None:
    free, everybody = threading.Event(), threading.Barrier(1 + available_cores(), timeout=30)

    def busy(begun: threading.Event) -> None:
        begun.set()
        everybody.wait()
        free.wait(30)

    for _ in range(available_cores()):
        begun = threading.Event()
        calls = (partial(begun.wait, 30), partial(busy, begun))
        threading.Thread(target=side_by_side, args=calls, daemon=True).start()
    everybody.wait()
    told = side_by_side(threading.get_ident, threading.get_ident)
    free.set()
    assert told == (threading.get_ident(), threading.get_ident())


@pytest.mark.parametrize("failing", [0, 1])
def test_what_fails_beside_is_told(failing: int) -> None:
    def fails() -> int:
        raise ValueError("here")

    calls = [lambda: 1, lambda: 1]
    calls[failing] = fails
    with pytest.raises(ValueError, match="here"):
        side_by_side(*calls)

"""Blocking work for async code: what happens when nobody waits for it any more."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from featherdesk.agent.errors import BusyError
from featherdesk.agent.threads import Stopped, iterated


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

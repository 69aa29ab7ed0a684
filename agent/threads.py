"""Blocking work in threads: for async code, told to stop when nobody waits any more; and side by
side, where cores are free.

Knows nothing of what the work is.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

from .cores import available_cores

__all__ = ["Stopped", "called", "iterated", "side_by_side"]

T = TypeVar("T")
U = TypeVar("U")
Stopped = Callable[[], bool]


def side_by_side(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """What two calls return. The caller makes the first, and the second too where no thread has
    begun it by then, so that nobody waits for a thread."""
    other = _pool().submit(second)
    try:
        told = first()
    finally:
        left = other.cancel()
    return told, second() if left else other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), "beside")


async def called(work: Callable[[Stopped], T]) -> T:
    """What `work` returns; it is given a function that says whether the caller was cancelled."""
    gone = threading.Event()
    try:
        return await asyncio.to_thread(work, gone.is_set)
    finally:
        gone.set()


async def iterated(work: Callable[[Stopped], Iterator[T]]) -> AsyncGenerator[T, None]:
    """The items of `work` as they come; leaving the loop early, or cancelling, stops the work."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
    gone = threading.Event()

    def tell(item: tuple[T] | None) -> None:
        # A loop that was closed meanwhile has nobody left who listens.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(items.put_nowait, item)

    def run() -> None:
        try:
            for item in work(gone.is_set):
                tell((item,))
                if gone.is_set():
                    return
        finally:
            tell(None)

    worker = loop.run_in_executor(None, run)
    try:
        while (item := await items.get()) is not None:
            yield item[0]
        await worker
    finally:
        gone.set()
        worker.add_done_callback(_heard)


def _heard(worker: "asyncio.Future[None]") -> None:
    """What goes wrong when nobody waits any more is nobody's news: asyncio would log it."""
    if not worker.cancelled():
        worker.exception()

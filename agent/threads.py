"""Blocking work for async code: in a thread, and told to stop when nobody waits any more.

Knows nothing of what the work is.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import TypeVar

__all__ = ["Stopped", "called", "iterated"]

T = TypeVar("T")
Stopped = Callable[[], bool]


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

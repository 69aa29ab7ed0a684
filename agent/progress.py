"""A bar with a rate and an end on stderr; silent when that is not a terminal."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["track"]

T = TypeVar("T")


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Yield the items and show how far they are, how many a second, and when they end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as EndColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        EndColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(description, total=len(items), rate="")
        for number, item in enumerate(items, start=1):
            yield item
            rate = number / max(time.monotonic() - began, 1e-6)
            bar.update(task, advance=1, rate=f"{rate:.1f}/s")

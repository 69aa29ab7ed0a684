"""A bar with a rate and an end on stderr; silent when that is not a terminal."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["track"]

T = TypeVar("T")


def track(items: Sequence[T], description: str) -> Iterator[T]:
    """Yield the items and show how far they are."""
    from rich.console import Console
    from rich.progress import track as bar

    quiet = not sys.stderr.isatty()
    yield from bar(items, description, console=Console(stderr=True), disable=quiet)

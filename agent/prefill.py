"""Reads a bot's entries when it is built, so that only questions are read when it is asked.

What the entries leave in the model (keys and values) stands in the folder `blocks` of the bot.
Knows nothing of how it is kept (see `blocks`).
"""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import accumulate
from pathlib import Path

from .blocks import ROTARY, Block, BlockStore, block_key
from .progress import track
from .prompt import render
from .runtime import OnnxGenerator
from .types import Entry

__all__ = ["FOLDER", "budget_of", "open_store", "write_blocks"]

FOLDER = "blocks"


def budget_of(bot: Path, megabytes: float) -> int:
    """Bytes for keys and values: `megabytes`, or below 0 as much as the generator takes."""
    if megabytes >= 0:
        return int(megabytes * 1e6)
    return sum(path.stat().st_size for path in (bot / "generator").iterdir())


def open_store(bot: Path, megabytes: float) -> BlockStore | None:
    """The store of a bot folder; None where nothing may be kept.

    Raises:
        ArtifactError: the folder is damaged.
    """
    budget = budget_of(bot, megabytes)
    return BlockStore(budget, bot / FOLDER) if budget else None


def write_blocks(
    bot: Path, entries: Sequence[Entry], writes: Sequence[str], megabytes: float, threads: int = 0
) -> int:
    """Read the system line and the entries that the model writes from, in their order (the most
    asked first, see `demand`), as far as the budget goes; returns how many are kept.

    Where not all fit, a tenth of the budget is left for those that are asked for later. A generator
    that cannot use them, or a budget of 0, leaves no folder.
    """
    budget = budget_of(bot, megabytes)
    if not budget or not (bot / "generator" / ROTARY).exists():
        return 0
    generator = OnnxGenerator(bot / "generator", threads, store=BlockStore(0))
    if not generator.stores:
        return 0
    today = date.today()
    told = [
        e
        for e in entries
        if e.language in writes and not (e.verbatim or e.skill or e.expired(today))
    ]
    texts = [render((), "").system, *(render([entry], "").entries[0] for entry in told)]
    blocks = [generator.encode(text) for text in texts]
    first = generator.block(blocks[0])
    sizes = [first.size_of(len(ids)) for ids in blocks]
    room = budget if sum(sizes) <= budget else budget * 9 // 10
    fit = sum(total <= room for total in accumulate(sizes))
    kept: list[str] = []

    def made() -> Iterator[tuple[str, Block]]:
        for ids in track(blocks[:fit], "reading entries"):
            kept.append(block_key(ids))
            yield kept[-1], generator.block(ids)

    BlockStore.write(bot / FOLDER, made())
    return len(kept)

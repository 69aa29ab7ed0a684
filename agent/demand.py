"""Which entries customers ask for most. Reads the conversations of a bot, if there are any."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .conversations import Store
from .errors import FeatherdeskError
from .types import Entry

__all__ = ["asked", "most_asked_first"]


def asked(bot: Path, url: str = "") -> Mapping[str, int]:
    """How often each entry was to be answered from, by id, in the conversations of a bot.

    `url` is `storage.url` of bot.toml; empty: conversations.db beside the bot folder. A store that
    is not there, or cannot be reached where the bot is built, tells nothing.
    """
    if not url and not (bot.resolve().parent / "conversations.db").exists():
        return {}
    try:
        store = Store.beside(bot, url)
    except FeatherdeskError:
        return {}
    try:
        return store.asked()
    finally:
        store.close()


def most_asked_first(entries: Sequence[Entry], times: Mapping[str, int]) -> list[Entry]:
    """The entries by how often they were asked for; unasked ones by how many wordings they have,
    which is how often their owner has met them; else in their order."""
    return sorted(entries, key=lambda entry: (-times.get(entry.id, 0), -len(entry.variants)))

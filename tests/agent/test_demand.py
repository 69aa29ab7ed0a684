"""What is asked most is read first when a bot is built."""

from pathlib import Path

from featherdesk.agent.conversations import Store
from featherdesk.agent.demand import asked, most_asked_first
from featherdesk.agent.types import Author, Entry, Match, Reply, Route, RouteKind


def _entry(name: str, *variants: str) -> Entry:
    return Entry(name, name, f"{name} answer", variants=variants)


def _reply(name: str, kind: RouteKind = RouteKind.ANSWER) -> Reply:
    return Reply("so", Route(kind, 0.9, 0.5, (Match(name, 0.9),)), Author.MODEL)


def test_replies_are_counted_by_entry(tmp_path: Path) -> None:
    bot = tmp_path / "bot"
    assert asked(bot) == {}
    assert not list(tmp_path.iterdir()), "asking makes no store"
    store = Store.beside(bot)
    for name in ("tents", "boots", "tents"):
        store.add("k", "?", _reply(name))
    store.add("k", "?", _reply("stoves", RouteKind.HANDOFF))
    store.close()
    assert asked(bot) == {"tents": 2, "boots": 1}


def test_a_store_that_cannot_be_reached_tells_nothing(tmp_path: Path) -> None:
    assert asked(tmp_path / "bot", f"sqlite:///{tmp_path}/not/there/c.db") == {}


def test_the_most_asked_come_first_then_those_with_most_wordings() -> None:
    entries = [_entry("a"), _entry("b", "b1", "b2"), _entry("c"), _entry("d")]
    ordered = most_asked_first(entries, {"d": 3, "c": 5})
    assert [entry.id for entry in ordered] == ["c", "d", "b", "a"]

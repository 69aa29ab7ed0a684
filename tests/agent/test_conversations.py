from pathlib import Path

import pytest
from featherdesk.agent.conversations import Store, new_key
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.types import Author, HandoffReason, Match, Reply, Route, RouteKind


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'c.db'}")
    yield made  # type: ignore[misc]
    made.close()


def _reply(kind: RouteKind = RouteKind.ANSWER) -> Reply:
    route = Route(kind, 0.9, 0.5, (Match("delivery", 0.9),), reason=HandoffReason.OUT_OF_SCOPE)
    return Reply("3 to 5 days", route, Author.MODEL)


def test_a_key_has_at_least_128_random_bits() -> None:
    assert len(new_key()) >= 32
    assert new_key() != new_key()


def test_a_conversation_survives_a_restart_and_is_masked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    first = Store(url)
    first.add("k", "my card 4111 1111 1111 1111", _reply())
    first.close()
    second = Store(url)
    assert [m.text for m in second.history("k")] == ["my card [card]", "3 to 5 days"]
    assert [t.role for t in second.turns("k")] == ["user", "assistant"]
    assert second.history("other") == []
    second.close()


def test_a_second_hand_off_keeps_its_number(store: Store) -> None:
    number = store.hand_off("k", "requested")
    assert store.hand_off("k", "requested") == number
    assert store.open_request("k") == number
    assert store.hand_off("other", "requested") != number


def test_the_inbox_holds_hand_offs_thumbs_down_and_unanswered(store: Store) -> None:
    told = store.add("k", "how long?", _reply())
    store.rate(told, good=False, reason="mail me at a@b.example")
    store.add("k", "do you ship to Mars?", _reply(RouteKind.HANDOFF))
    store.hand_off("k", "requested")
    items = {item.kind: item for item in store.inbox()}
    assert set(items) == {"handoff", "thumb_down", "unanswered"}
    assert items["thumb_down"].note == "mail me at [e-mail]"
    assert items["unanswered"].question == "do you ship to Mars?"
    assert items["handoff"].number == "H-00001"


def test_a_changed_thumb_replaces_the_first(store: Store) -> None:
    told = store.add("k", "q", _reply())
    store.rate(told, good=False)
    store.rate(told, good=True)
    assert not [item for item in store.inbox() if item.kind == "thumb_down"]


def test_rating_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(FeatherdeskError, match="no reply number 99"):
        store.rate(99, good=True)


def test_hostile_text_is_stored_as_text(store: Store) -> None:
    hostile = "'); DROP TABLE messages; -- \x00 😀" + "x" * 100_000
    store.add("k", hostile, _reply())
    assert store.history("k")[0].text.startswith("'); DROP TABLE")
    assert len(store.history("k")) == 2


def test_a_wrong_url_is_a_clear_error() -> None:
    with pytest.raises(FeatherdeskError, match=r"storage\.url"):
        Store("nosuch://x")

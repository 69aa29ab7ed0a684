import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.conversations import Store, new_key
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.receipt import Receipt
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


def test_a_reply_keeps_its_receipt(store: Store) -> None:
    store.add("k", "how long?", _reply())
    asked, told = store.history("k")
    assert Receipt.from_json(asked.receipt) is None
    assert Receipt.from_json(told.receipt) == Receipt.of(_reply())


def test_contact_and_note_are_kept_for_staff_only(store: Store) -> None:
    number = store.hand_off("k", "requested", "ring me\x00", contact=" a@b.example \r\n Bcc: c ")
    request = store.request(number)
    assert request is not None
    assert (request.contact, request.note, request.revision) == ("a@b.example Bcc: c", "ring me", 1)
    store.hand_off("k", "requested")
    assert store.request(number) == request
    store.hand_off("k", "requested", "ring me late")
    changed = store.request(number)
    assert changed is not None
    assert (changed.contact, changed.note, changed.revision) == (request.contact, "ring me late", 2)
    assert store.history("k") == []


def test_what_the_bot_says_of_itself_is_no_unanswered_question(store: Store) -> None:
    store.tell("k", "A person will look at this conversation. Your number is H-00001.")
    assert [m.role for m in store.history("k")] == ["assistant"]
    assert store.inbox() == []


OLD = """
CREATE TABLE messages (id INTEGER PRIMARY KEY, conversation VARCHAR(64), at DATETIME,
  role VARCHAR(16), text TEXT, route VARCHAR(16), author VARCHAR(16), entry_id VARCHAR(200),
  confidence FLOAT, receipt TEXT);
CREATE TABLE feedback (id INTEGER PRIMARY KEY, message_id INTEGER UNIQUE, at DATETIME,
  good BOOLEAN, reason TEXT);
CREATE TABLE handoffs (id INTEGER PRIMARY KEY, conversation VARCHAR(64), at DATETIME,
  reason VARCHAR(40), note TEXT);
INSERT INTO messages VALUES (1, 'k', '2026-01-01 10:00:00', 'user', 'hello', '', '', '', 0, '');
INSERT INTO messages VALUES (2, 'k', '2026-01-01 10:00:01', 'assistant', 'hi', 'answer', 'model',
  'a', 0.9, '{"ms": {"total": 3}, "citations": ["a"], "threshold": 0.5}');
INSERT INTO handoffs VALUES (7, 'k', '2026-01-01 10:00:02', 'requested', '');
"""


def test_a_database_of_the_first_version_opens_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript(OLD)
    old.close()
    for _ in range(2):
        store = Store(f"sqlite:///{path}")
        assert [m.text for m in store.history("k")] == ["hello", "hi"]
        request = store.request("H-00007")
        assert request is not None
        assert (request.contact, request.revision) == ("", 1)
        assert store.open_request("k") == "H-00007"
        store.close()
    store = Store(f"sqlite:///{path}")
    assert store.hand_off("k", "requested", contact="a@b.example") == "H-00007"
    assert [item.contact for item in store.inbox()] == ["a@b.example"]
    store.close()


def test_several_processes_may_open_a_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    errors: list[FeatherdeskError] = []

    def open_one() -> None:
        try:
            Store(url).close()
        except FeatherdeskError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = Store(url)
    assert store.hand_off("k", "requested", channels=("webhook",)) == "H-00001"
    store.close()


def test_a_choice_is_kept_as_an_example_of_its_entry(store: Store) -> None:
    store.add("k", "is my parcel coming", _reply(RouteKind.CLARIFY))
    assert [item.kind for item in store.inbox()] == ["unanswered"]
    store.add("k", "How long does delivery take?", _reply())
    [item] = store.inbox()
    assert (item.kind, item.question, item.entry_id) == (
        "choice",
        "is my parcel coming",
        "delivery",
    )


def test_an_answer_from_another_entry_is_no_choice(store: Store) -> None:
    store.add("k", "is my parcel coming", _reply(RouteKind.CLARIFY))
    other = replace(_reply(), route=Route(RouteKind.ANSWER, 0.9, 0.5, (Match("pay", 0.9),)))
    store.add("k", "How can I pay?", other)
    assert [item.kind for item in store.inbox()] == ["unanswered"]

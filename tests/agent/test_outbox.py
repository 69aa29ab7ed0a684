"""The outbox: nothing lost, nothing twice, whoever works on it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from featherdesk.agent.conversations import Store
from featherdesk.agent.errors import FeatherdeskError

BOTH = ("webhook", "email")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'c.db'}")
    yield made
    made.close()


def test_a_request_is_due_through_every_channel_after_its_delay(store: Store) -> None:
    store.hand_off("k", "requested", channels=BOTH, delay=60)
    assert store.outbox.due(BOTH, 0.0) == []
    due = store.outbox.due(BOTH, 9e12)
    assert [(p.number, p.channel, p.revision) for p in due] == [
        ("H-00001", "webhook", 1),
        ("H-00001", "email", 1),
    ]
    assert [p.channel for p in store.outbox.due(("email",), 9e12)] == ["email"]


def test_without_a_channel_nothing_waits(store: Store) -> None:
    store.hand_off("k", "requested")
    assert store.outbox.due(BOTH, 9e12) == []


def test_only_one_of_many_takes_a_parcel(store: Store) -> None:
    store.hand_off("k", "requested", channels=("webhook",))
    [parcel] = store.outbox.due(BOTH, 9e12)
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.append(store.outbox.claim(parcel, 9e12)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 5 + [True]


def test_what_a_dead_process_took_is_due_again_later(store: Store) -> None:
    store.hand_off("k", "requested", channels=("webhook",))
    [parcel] = store.outbox.due(BOTH, 9e12)
    assert store.outbox.claim(parcel, 1e12)
    assert store.outbox.due(BOTH, 1e12 - 1) == []
    [again] = store.outbox.due(BOTH, 1e12)
    assert again.attempts == 1


def test_sent_stays_sent(store: Store) -> None:
    store.hand_off("k", "requested", channels=("webhook",))
    [parcel] = store.outbox.due(BOTH, 9e12)
    store.outbox.sent(parcel)
    store.outbox.failed(parcel, "late", 0.0)
    assert store.outbox.due(BOTH, 9e12) == []
    assert store.outbox.resend() == 0


def test_a_newer_revision_takes_the_place_of_one_not_sent(store: Store) -> None:
    store.hand_off("k", "requested", channels=("webhook",))
    [first] = store.outbox.due(BOTH, 9e12)
    store.outbox.failed(first, "no", None)
    store.hand_off("k", "requested", contact="a@b.example", channels=("webhook",))
    assert [p.revision for p in store.outbox.due(BOTH, 9e12)] == [2]
    assert store.outbox.resend() == 0


def test_two_clicks_at_once_are_one_request(store: Store) -> None:
    numbers: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: numbers.append(store.hand_off("k", "requested", channels=BOTH))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers == ["H-00001"] * 6
    assert len(store.outbox.due(BOTH, 9e12)) == 2


def test_a_broken_database_is_one_clear_line(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'c.db'}")
    store.close()
    (tmp_path / "c.db").write_bytes(b"not a database at all, not at all" * 99)
    with pytest.raises(FeatherdeskError, match="outbox of hand-offs cannot be read"):
        store.outbox.due(BOTH, 0.0)
    store.close()

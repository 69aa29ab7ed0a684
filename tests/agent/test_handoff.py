"""The request for a person and its summary, made from the store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from featherdesk.agent.conversations import Store
from featherdesk.agent.handoff import ask_for_person, summarize, taken
from featherdesk.agent.offers import offered, past_of
from featherdesk.agent.stages import Handoff as Settings
from featherdesk.agent.texts import say
from featherdesk.agent.types import (
    Author,
    Handoff,
    HandoffReason,
    Match,
    Reply,
    Route,
    RouteKind,
    Turn,
)

NONE = Settings()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'c.db'}")
    yield made
    made.close()


def _lost(score: float = 0.1, reason: HandoffReason = HandoffReason.LOW_CONFIDENCE) -> Reply:
    matches = (Match("delivery", score, matched="How long does delivery take?"),)
    route = Route(RouteKind.HANDOFF, score, 0.5, matches, reason=reason)
    return Reply(say("no_answer", "en"), route, Author.CURATED, handoff=Handoff(reason))


def _wanted(language: str = "en") -> Reply:
    route = Route(RouteKind.HANDOFF, 0.0, 0.5, reason=HandoffReason.REQUESTED)
    handoff = Handoff(HandoffReason.REQUESTED)
    return Reply(say("requested", language), route, Author.CURATED, handoff=handoff)


def test_the_summary_holds_the_conversation_and_the_entries(store: Store) -> None:
    store.add("k", "my mail is ann@b.example, ship to Mars?", _lost())
    store.add("k", "talk to a person", _wanted())
    number = store.hand_off(
        "k", "low_confidence", "call\nafter six", contact="ann@b.example, +44 1632 960118"
    )
    summary = summarize(store, number, "Larkfell")
    assert summary is not None
    assert [line.text for line in summary.conversation] == [
        "my mail is [e-mail], ship to Mars?",
        say("no_answer", "en"),
        "talk to a person",
        say("requested", "en"),
    ]
    assert summary.conversation[1].reason == "low_confidence"
    assert [(c.entry_id, c.score) for c in summary.considered] == [("delivery", 0.1)]
    assert (summary.number, summary.language, summary.bot) == (number, "en", "Larkfell")
    assert summary.contact == "ann@b.example, +44 1632 960118"
    text = summary.to_text()
    for words in (
        "Hand-off H-00001: something in the FAQ is near, but not near enough (low_confidence)",
        "Contact: ann@b.example, +44 1632 960118",
        "call\n            after six",
        "customer  my mail is [e-mail], ship to Mars?",
        "[handoff low_confidence]",
        "0.10  delivery: How long does delivery take?",
    ):
        assert words in text
    told = json.loads(json.dumps(summary.to_json()))
    assert told["considered"][0]["matched"] == "How long does delivery take?"


def test_a_summary_of_nothing_is_whole(store: Store) -> None:
    number = store.hand_off("k", "requested")
    summary = summarize(store, number)
    assert summary is not None
    assert (summary.conversation, summary.considered) == ((), ())
    assert "Contact: none given" in summary.to_text()


@pytest.mark.parametrize(
    "number", ["", "H-", "H-99999", "nonsense", "H-1; DROP TABLE", "H-" + "9" * 40]
)
def test_an_unknown_number_has_none(store: Store, number: str) -> None:
    assert summarize(store, number) is None


def test_a_long_conversation_is_cut_to_its_end(store: Store) -> None:
    for number in range(60):
        store.add("k", f"question {number}", _lost())
    summary = summarize(store, store.hand_off("k", "failed_twice"))
    assert summary is not None
    assert len(summary.conversation) == 40
    assert summary.conversation[-2].text == "question 59"


def test_chinese_is_told(store: Store) -> None:
    store.add("k", "能送到火星吗？", _lost())
    summary = summarize(store, store.hand_off("k", "requested"))
    assert summary is not None
    assert summary.language == "zh"


def test_the_reason_is_why_the_bot_had_just_offered(store: Store) -> None:
    store.add("a", "Mars?", _lost(reason=HandoffReason.OUT_OF_SCOPE))
    store.add("b", "hi", Reply("Hello!", Route(RouteKind.SMALLTALK, 1, 0.5), Author.CURATED))
    numbers = {key: ask_for_person(store, key, NONE) for key in ("a", "b", "c")}
    reasons = {}
    for key, number in numbers.items():
        request = store.request(number)
        assert request is not None
        reasons[key] = request.reason
    assert reasons == {"a": "out_of_scope", "b": "requested", "c": "requested"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_wish_for_a_person_is_recorded_and_told_its_number(store: Store, language: str) -> None:
    settings = Settings(webhook="https://desk.example/hook")
    told = taken(store, "k", _wanted(language), settings)
    assert told.text == say("asked", language, "H-00001")
    assert told.handoff == Handoff(HandoffReason.REQUESTED, "H-00001")
    assert [p.number for p in store.outbox.due(("webhook",), 9e12)] == ["H-00001"]
    assert taken(store, "k", _wanted(language), settings).handoff == told.handoff
    assert len(store.outbox.due(("webhook",), 9e12)) == 1


def test_an_offer_is_not_taken_by_itself(store: Store) -> None:
    reply = _lost()
    assert taken(store, "k", reply, NONE) is reply
    assert store.open_request("k") is None


def test_what_was_offered_and_asked_holds_over_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    first = Store(url)
    first.add("k", "Mars?", offered(_lost(), first.turns("k"), "en"))
    first.add("k", "talk to a person", taken(first, "k", _wanted(), NONE))
    first.close()
    second = Store(url)
    past = past_of(second.turns("k"))
    assert (past.offered, past.number) == (True, "H-00001")
    again = offered(_lost(), second.turns("k"), "en")
    assert again.text == say("unanswered", "en", "H-00001")
    assert again.handoff is not None
    assert again.handoff.number == "H-00001"
    second.close()


def test_the_history_of_a_client_reaches_staff(store: Store) -> None:
    store.remember("k", [Turn("user", "mail a@b.example"), Turn("assistant", "Noted.")])
    summary = summarize(store, ask_for_person(store, "k", NONE))
    assert summary is not None
    assert [(line.role, line.text) for line in summary.conversation] == [
        ("user", "mail [e-mail]"),
        ("assistant", "Noted."),
    ]

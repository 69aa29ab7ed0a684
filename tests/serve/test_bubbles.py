"""What a conversation is shown as, live and after a reload."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from featherdesk.agent.conversations import Message
from featherdesk.agent.receipt import Receipt
from featherdesk.agent.stages import BotConfig, Page
from featherdesk.agent.types import Author, Citation, Entry, Match, Reply, Route, RouteKind
from featherdesk.serve.bubbles import reply_bubbles, stored_bubbles

ENTRY = Entry("a", "How long?", "3 days.", url="https://b.example/a")


@dataclass
class _Index:
    entries: Sequence[Entry] = (ENTRY,)


@dataclass
class _Router:
    index: _Index = field(default_factory=_Index)


@dataclass
class _Bot:
    """As much of an agent as is looked at."""

    config: BotConfig = field(default_factory=BotConfig)
    router: _Router = field(default_factory=_Router)


def _reply(kind: RouteKind = RouteKind.ANSWER) -> Reply:
    route = Route(kind, 0.9, 0.5, (Match("a", 0.9, matched="How long?"),), ("a",))
    cited = (Citation("a", ENTRY.answer, ENTRY.question, ENTRY.url),)
    return Reply("It takes 3 days.", route, Author.MODEL, citations=cited, base="b")


def _bot(**options: Any) -> Any:
    return _Bot(**options)


def _stored(reply: Reply) -> Message:
    receipt = json.dumps(Receipt.of(reply).to_json())
    return Message(1, "assistant", reply.text, reply.route.kind.value, "a", receipt)


def test_a_reply_comes_with_its_source_and_receipt() -> None:
    text, source, why = reply_bubbles(_bot(), _reply(), "en")
    assert text["content"] == "It takes 3 days\\."
    assert source["metadata"]["title"] == "Source: How long?"
    assert "Why this answer?" in why["content"]


def test_a_reload_shows_the_same() -> None:
    reply = _reply()
    assert stored_bubbles(_bot(), _stored(reply), "zh") == reply_bubbles(_bot(), reply, "zh")


def test_receipts_can_be_switched_off() -> None:
    bot = _bot(config=BotConfig(page=Page(receipts=False)))
    assert len(reply_bubbles(bot, _reply(), "en")) == 2
    assert len(stored_bubbles(bot, _stored(_reply()), "en")) == 2


def test_a_source_that_left_the_faq_is_not_shown() -> None:
    bot = _bot(router=_Router(_Index(())))
    assert len(stored_bubbles(bot, _stored(_reply()), "en")) == 2


def test_messages_of_the_first_version_still_show_their_source() -> None:
    old = Message(1, "assistant", "3 days", "answer", "a", '{"ms": {}, "citations": ["a"]}')
    shown = stored_bubbles(_bot(), old, "en")
    assert [b.get("metadata", {}).get("title") for b in shown] == [None, "Source: How long?"]
    asked = Message(2, "user", "how long?", "", "")
    assert stored_bubbles(_bot(), asked, "en") == [{"role": "user", "content": "how long?"}]

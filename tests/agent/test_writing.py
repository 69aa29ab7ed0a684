"""What the model writes: when its refusal counts, and how messages of several parts are written."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import BusyError
from featherdesk.agent.grounding import StreamGuard
from featherdesk.agent.runtime import Step
from featherdesk.agent.types import Author, Reply
from featherdesk.agent.writing import refusal_threshold

from ..conftest import Scripted

PAY = "We accept Visa, Mastercard and PayPal."
DELIVERY = "Standard delivery takes 3 to 5 working days and costs £4.95."


def test_the_surer_the_router_the_surer_the_model_must_be_to_refuse(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(DELIVERY)
    manifest = replace(agent.manifest, refusal=0.3, refusal_slope=0.5)
    settings = agent.config.generation
    assert refusal_threshold(manifest, settings, 0.5) == pytest.approx(0.3)
    sure, unsure = (refusal_threshold(manifest, settings, share) for share in (0.9, 0.1))
    assert sure > 0.5 > 0.3 > unsure
    assert refusal_threshold(manifest, replace(settings, refusal=0.25), 0.9) == 0.25


Made = Callable[[Any], Agent]
"""Makes an agent from a generator."""


def _said(agent: Agent, question: str) -> tuple[list[str], Reply]:
    events = list(agent.stream(question))
    assert events[-1].reply is not None
    return [event.delta for event in events if event.delta], events[-1].reply


def test_what_mixes_entries_up_is_written_again_with_all_in_view(
    agent_of: Made, mixing: Callable[..., Any]
) -> None:
    model = mixing(DELIVERY, mixed=DELIVERY.replace("£4.95", "£6.95"))
    shown, reply = _said(agent_of(model), "How long is delivery?")
    assert reply.author is Author.MODEL
    assert reply.text == reply.raw_text == DELIVERY
    assert "".join(shown) == DELIVERY
    assert [bool(count) for count in model.read] == [True, False]
    assert reply.tokens > len(DELIVERY)


@pytest.mark.parametrize("text", [DELIVERY, DELIVERY.replace("£4.95", "£6.95")])
def test_what_comes_in_one_pass_is_looked_at_once(
    agent_of: Made, mixing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    model = mixing(text, mixed=text)
    one_by_one = _said(agent_of(model), "How long is delivery?")
    fed: list[str] = []
    feed = StreamGuard.feed

    def counted(self: StreamGuard, told: str) -> str:
        fed.append(told)
        return feed(self, told)

    def bursts(ids: Any, **told: Any) -> Iterator[Step]:
        steps = list(Scripted(text).generate(ids, **told))
        for place, step in enumerate(steps, 1):
            yield replace(step, more=bool(place % 9) and place < len(steps))

    monkeypatch.setattr(StreamGuard, "feed", counted)
    monkeypatch.setattr(model, "generate", bursts)
    shown, reply = _said(agent_of(model), "How long is delivery?")
    assert (reply.text, reply.author) == (one_by_one[1].text, one_by_one[1].author)
    assert "".join(shown) == "".join(one_by_one[0])
    assert all(len(told) % 9 == 0 or told == text for told in fed)
    assert 0 < len(fed) <= 2 * -(-len(text) // 9)


def test_of_another_text_nothing_is_shown_behind_the_first_one(
    agent_of: Made, mixing: Callable[..., Any]
) -> None:
    model = mixing("It costs £4.95.", mixed=DELIVERY.replace("£4.95", "£6.95"))
    shown, reply = _said(agent_of(model), "How long is delivery?")
    assert reply.text == "It costs £4.95."
    assert DELIVERY.startswith("".join(shown))
    assert "£" not in "".join(shown)


def test_wrong_both_times_it_is_the_entry_that_is_sent(
    agent_of: Made, mixing: Callable[..., Any]
) -> None:
    wrong = DELIVERY.replace("£4.95", "£6.95")
    model = mixing(wrong, mixed=wrong)
    _, reply = _said(agent_of(model), "How long is delivery?")
    assert reply.author is Author.FALLBACK
    assert "£6.95" not in reply.text
    assert len(model.read) == 2


@pytest.mark.parametrize("stores", [True, False])
def test_what_passes_or_was_read_in_one_is_written_once(
    agent_of: Made, mixing: Callable[..., Any], stores: bool
) -> None:
    wrong = DELIVERY.replace("£4.95", "£6.95")
    model = mixing(DELIVERY, mixed=DELIVERY if stores else wrong, stores=stores)
    _said(agent_of(model), "How long is delivery?")
    assert len(model.read) == 1


@pytest.mark.parametrize(
    "question", ["How long is delivery?", "How long is delivery? How can I pay?"]
)
def test_who_was_half_answered_is_not_sent_away_by_a_full_queue(
    agent_of: Made, mixing: Callable[..., Any], question: str
) -> None:
    wrong = DELIVERY.replace("£4.95", "£6.95")
    two = question.count("?") > 1
    agent = agent_of(mixing(DELIVERY, mixed=DELIVERY if two else wrong, seats=1))
    _, reply = _said(agent, question)
    assert reply.author is Author.FALLBACK
    assert "£4.95" in reply.text
    with pytest.raises(BusyError):
        agent_of(mixing(DELIVERY, seats=0)).reply(question)

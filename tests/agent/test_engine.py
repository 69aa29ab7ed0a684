"""The engine with a scripted generator: what is sent when the model is right, wrong, or slow."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from featherdesk.agent.answers import AnswerCache
from featherdesk.agent.engine import Agent
from featherdesk.agent.prompt import END_OF_TURN, REFUSAL
from featherdesk.agent.types import Author, HandoffReason, RouteKind, Turn

ASKED = "when will my package arrive?"
GOOD = "Standard delivery takes 3 to 5 working days and costs £4.95."


def test_a_grounded_answer_is_the_models_and_cites_its_entry(
    agent_of: Callable[[str], Agent],
) -> None:
    reply = agent_of(GOOD).reply(ASKED)
    assert (reply.text, reply.author, reply.grounded) == (GOOD, Author.MODEL, True)
    assert [c.entry_id for c in reply.citations] == ["delivery"]
    assert set(reply.ms) == {"route", "generate", "total", "first_token", "check"}
    assert (reply.base, reply.model) == ("base", "grounded")


def test_streamed_words_make_the_reply(agent_of: Callable[[str], Agent]) -> None:
    events = list(agent_of(GOOD).stream(ASKED))
    assert "".join(event.delta for event in events) == GOOD
    assert sum(event.reply is not None for event in events) == 1


def test_a_wrong_price_is_never_streamed_and_the_curated_text_is_sent(
    agent_of: Callable[[str], Agent],
) -> None:
    events = list(
        agent_of("Standard delivery takes 3 to 5 working days and costs £9.95.").stream(ASKED)
    )
    reply = events[-1].reply
    assert reply is not None
    assert "9.95" not in "".join(event.delta for event in events)
    assert (reply.text, reply.author) == (GOOD, Author.FALLBACK)
    assert "£9.95" in reply.unsupported
    assert "9.95" in reply.raw_text


def test_a_refusal_of_the_model_offers_a_person_and_what_is_close(
    agent_of: Callable[[str], Agent],
) -> None:
    reply = agent_of(REFUSAL).reply(ASKED)
    assert reply.route.kind is RouteKind.CLARIFY
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.NOT_IN_ENTRIES
    assert 1 <= len(reply.citations) <= 3
    assert "person" in reply.text
    assert REFUSAL not in reply.text


def test_a_refusal_that_ends_early_is_one_and_its_beginning_alone_is_none(
    agent_of: Callable[[str], Agent],
) -> None:
    reply = agent_of(REFUSAL[:-1]).reply(ASKED)
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.NOT_IN_ENTRIES
    assert REFUSAL[:-1] not in reply.text
    assert agent_of(REFUSAL[:5]).reply(ASKED).author is Author.FALLBACK


def test_a_refusal_of_the_model_offers_no_entry_that_is_far(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(REFUSAL)
    told = agent.router.calibration
    far = replace(told, latin=replace(told.latin, offer=1.01))
    agent.router = replace(agent.router, calibration=far)
    reply = agent.reply(ASKED)
    assert reply.route.kind is RouteKind.HANDOFF
    assert reply.citations == ()


def test_a_promise_that_no_entry_makes_is_never_streamed(
    agent_of: Callable[[str], Agent],
) -> None:
    """No number, name or denial in it: the score of the sentence alone tells."""
    said = f"{GOOD} We collect unwanted parcels from your home as well. It is quick."
    events = list(agent_of(said).stream(ASKED))
    reply = events[-1].reply
    assert reply is not None
    assert "collect" not in "".join(event.delta for event in events)
    assert (reply.text, reply.author) == (GOOD, Author.FALLBACK)
    assert reply.unsupported == ("We collect unwanted parcels from your home as well.",)


def test_what_may_be_chosen_is_numbered_and_an_ordinal_chooses(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(GOOD)
    latin = replace(agent.router.calibration.latin, answer=0.999999, clarify=0.0)
    router = replace(agent.router, calibration=replace(agent.router.calibration, latin=latin))
    offered = replace(agent, router=router).reply(ASKED)
    assert offered.route.kind is RouteKind.CLARIFY
    asked = [citation.question for citation in offered.citations]
    assert offered.text.splitlines()[1:] == [f"{n}. {q}" for n, q in enumerate(asked, 1)]
    history = [Turn("user", ASKED), Turn("assistant", offered.text)]
    chosen = agent.reply("the second one", history)
    assert chosen.route.matches[0].entry_id == offered.citations[1].entry_id


def test_a_slow_or_silent_model_falls_back_to_the_curated_text(
    agent_of: Callable[..., Agent],
) -> None:
    assert agent_of(GOOD, fail=True).reply(ASKED).author is Author.FALLBACK
    assert agent_of("").reply(ASKED).text == GOOD


def test_a_cancelled_turn_stops(agent_of: Callable[[str], Agent]) -> None:
    reply = agent_of(GOOD).reply(ASKED, stopped=lambda: True)
    assert reply.tokens == 0


@pytest.mark.parametrize("question", ["", "   ", "\x00\x01"])
def test_an_empty_question_is_asked_back(agent_of: Callable[[str], Agent], question: str) -> None:
    reply = agent_of(GOOD).reply(question)
    assert reply.text == "Please type a question."


@pytest.mark.parametrize(
    "question", ["a" * 100_000, "<script>alert(1)</script>", "‮" * 50, "\ud800"]
)
def test_hostile_text_gets_a_reply(agent_of: Callable[[str], Agent], question: str) -> None:
    assert agent_of(GOOD).reply(question).text


def test_routing_only_generates_nothing(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(GOOD)
    reply = agent.route(ASKED)
    assert reply.entry_id == "delivery"
    assert not agent.generator.seen  # type: ignore[union-attr]


def test_tokens_are_counted_and_none_are_where_no_model_is_asked(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(GOOD)
    reply = agent.reply(ASKED)
    seen = agent.generator.seen  # type: ignore[union-attr]
    read = [text for text in seen if text != REFUSAL and not text.endswith(GOOD + END_OF_TURN)]
    assert reply.prompt_tokens == sum(map(len, read))
    assert reply.tokens == len(GOOD)
    curated = agent.reply("hello")
    assert (curated.prompt_tokens, curated.tokens) == (0, 0)


def test_an_async_reply_is_the_same_reply(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(GOOD)
    awaited, called = asyncio.run(agent.areply(ASKED)), agent.reply(ASKED)
    assert replace(awaited, ms={}) == replace(called, ms={})


def test_an_async_stream_gives_the_same_events(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(GOOD)

    async def streamed() -> list[str]:
        return [event.delta async for event in agent.astream(ASKED)]

    assert asyncio.run(streamed()) == [event.delta for event in agent.stream(ASKED)]


def test_the_event_loop_runs_while_a_reply_is_written(agent_of: Callable[..., Agent]) -> None:
    """The model is asked to wait for the loop: a blocked loop would never let it go on."""
    agent, let_go = agent_of(GOOD), threading.Event()
    decode = agent.generator.decode  # type: ignore[union-attr]

    def waits(ids: Any) -> str:
        assert let_go.wait(30)
        return decode(ids)

    agent.generator.decode = waits  # type: ignore[union-attr, method-assign]

    async def run() -> str:
        task = asyncio.create_task(agent.areply(ASKED))
        await asyncio.sleep(0)
        let_go.set()
        return (await task).text

    assert asyncio.run(run()) == GOOD


def test_cancelling_an_async_reply_stops_the_model(
    agent_of: Callable[..., Agent], endless: Any
) -> None:
    async def run() -> None:
        task = asyncio.create_task(agent_of(endless).areply(ASKED))
        assert await asyncio.to_thread(endless.began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(endless.ended.wait, 30)

    asyncio.run(run())


def test_leaving_an_async_stream_stops_the_model(
    agent_of: Callable[..., Agent], endless: Any
) -> None:
    async def run() -> None:
        async with aclosing(agent_of(endless).astream(ASKED)) as events:
            async for event in events:
                assert event.delta
                break
        assert await asyncio.to_thread(endless.ended.wait, 30)

    asyncio.run(run())


def test_an_error_in_an_async_stream_reaches_the_reader(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(GOOD)
    agent.generator.encode = None  # type: ignore[union-attr, method-assign, assignment]

    async def run() -> None:
        async for _ in agent.astream(ASKED):
            pass

    with pytest.raises(TypeError, match="not callable"):
        asyncio.run(run())


def test_the_agent_is_a_public_name() -> None:
    import featherdesk

    assert featherdesk.Agent is Agent


def _talk(agent: Agent, *questions: str) -> list[Turn]:
    turns: list[Turn] = []
    for question in questions:
        reply = agent.reply(question, turns)
        turns += [Turn("user", question), Turn("assistant", reply.text)]
    return turns


def test_a_person_is_offered_once_and_a_yes_takes_it(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(GOOD)
    turns = _talk(agent, "write me a poem about cats", "what is the capital of Peru?")
    assert "Would you like to talk to a person?" in turns[1].content
    assert "Would you like" not in turns[3].content
    second = agent.reply("what is the capital of Peru?", turns[:2])
    assert second.handoff is not None
    assert second.handoff.reason is HandoffReason.FAILED_TWICE
    yes = agent.reply("yes please", turns[:2])
    assert yes.handoff is not None
    assert yes.handoff.reason is HandoffReason.REQUESTED
    assert agent.reply("no thanks", turns[:2]).handoff is None
    assert agent.route("write me a poem about cats", turns).text != turns[3].content


def test_a_refusal_after_a_failure_is_failed_twice(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(REFUSAL)
    turns = _talk(agent, "write me a poem about cats")
    reply = agent.reply(ASKED, turns)
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.FAILED_TWICE
    assert reply.route.kind is RouteKind.CLARIFY
    assert "person" not in reply.text


def test_curated_text_names_no_model(agent_of: Callable[[str], Agent]) -> None:
    reply = agent_of(GOOD).reply("Hello!")
    assert (reply.base, reply.bits) == ("", "")


def test_warming_up_uses_every_part_and_keeps_nothing(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(GOOD)
    agent.answers = AnswerCache(10**6)
    agent.warm()
    assert agent.generator.seen  # type: ignore[union-attr]
    assert (len(agent.answers), agent.answers.hits, agent.answers.misses) == (0, 0, 0)


def test_warming_up_ends_by_itself(agent_of: Callable[..., Agent], endless: Any) -> None:
    agent_of(endless).warm()
    assert endless.ended.is_set()


def test_a_kept_answer_gets_the_route_and_the_guards_of_now(
    agent_of: Callable[..., Agent],
) -> None:
    agent = agent_of(GOOD)
    agent.answers = AnswerCache(10**6)
    first, again = agent.reply(ASKED), agent.reply(ASKED.upper())
    assert (first.cached, again.cached) == (False, True)
    assert (again.text, again.author, again.model) == (GOOD, Author.MODEL, "grounded")
    assert again.citations == first.citations
    assert set(again.ms) == {"route", "generate", "total", "first_token", "check"}
    latin = replace(agent.router.calibration.latin, answer=0.999999, clarify=0.0)
    strict = replace(agent.router.calibration, latin=latin)
    agent.router = replace(agent.router, calibration=strict)
    asked_back = agent.reply(ASKED)
    assert asked_back.route.kind is RouteKind.CLARIFY
    assert not asked_back.cached


def test_an_entry_that_newly_passes_is_not_hidden(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(GOOD)
    agent.answers = AnswerCache(10**6)
    route = agent.router.route(ASKED)
    before = replace(route, passed=("delivery",))
    deque(agent._writing(agent.generator, before, ASKED, (), lambda: False).deltas(), 0)  # type: ignore[arg-type]
    assert len(agent.answers) == 1
    wider = replace(route, passed=("hours", "delivery"))
    writing = agent._writing(agent.generator, wider, ASKED, (), lambda: False)  # type: ignore[arg-type]
    deque(writing.deltas(), 0)
    assert not writing.drafts[0].kept

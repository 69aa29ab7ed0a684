"""The engine with a scripted generator: what is sent when the model is right, wrong, or slow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.config import BotConfig
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import GenerationError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import REFUSAL, contract_hash
from featherdesk.agent.router import Router
from featherdesk.agent.runtime import Step
from featherdesk.agent.types import Author, Entry, HandoffReason, RouteKind, Turn
from numpy.typing import NDArray


@dataclass
class Scripted:
    """A generator whose tokens are characters and whose answer is written beforehand."""

    answer: str
    seen: list[str] = field(default_factory=list)
    fail: bool = False

    def encode(self, text: str) -> list[int]:
        self.seen.append(text)
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids)

    def first(self, ids: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
        return np.zeros(len(tokens), np.float32)

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
    ) -> Iterator[Step]:
        for place, character in enumerate(self.answer):
            if self.fail and place > 5:
                raise GenerationError("too slow")
            if stopped():
                return
            yield Step(ord(character), 1.0)


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> MiniLM:
    return MiniLM(encoder_folder, 2)


@pytest.fixture
def agent_of(entries: list[Entry], encoder: MiniLM, tmp_path: Path) -> Callable[[str], Agent]:
    index = Index.build(entries, encoder)
    manifest = Manifest(
        "b", "base", "h", "grounded", contract_hash(), ("en",), encoder.id, len(entries), ("en",)
    )

    def make(answer: str, *, fail: bool = False) -> Agent:
        return Agent(
            Router(index, calibrate(index)),
            Scripted(answer, fail=fail),
            BotConfig(),
            manifest,
            tmp_path,
        )

    return make


ASKED = "when will my package arrive?"
GOOD = "Standard delivery takes 3 to 5 working days and costs £4.95."


def test_a_grounded_answer_is_the_models_and_cites_its_entry(
    agent_of: Callable[[str], Agent],
) -> None:
    reply = agent_of(GOOD).ask(ASKED)
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
    reply = agent_of(REFUSAL).ask(ASKED)
    assert reply.route.kind is RouteKind.CLARIFY
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.NOT_IN_ENTRIES
    assert 1 <= len(reply.citations) <= 3
    assert "person" in reply.text
    assert REFUSAL not in reply.text


def test_a_refusal_of_the_model_offers_no_entry_that_is_far(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(REFUSAL)
    told = agent.router.calibration
    far = replace(told, latin=replace(told.latin, offer=1.01))
    agent.router = replace(agent.router, calibration=far)
    reply = agent.ask(ASKED)
    assert reply.route.kind is RouteKind.HANDOFF
    assert reply.citations == ()


def test_the_surer_the_router_the_surer_the_model_must_be_to_refuse(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(GOOD)
    agent.manifest = replace(agent.manifest, refusal=0.3, refusal_slope=0.5)
    assert agent._refusal_threshold(0.5) == pytest.approx(0.3)
    assert agent._refusal_threshold(0.9) > 0.5 > 0.3 > agent._refusal_threshold(0.1)


def test_a_slow_or_silent_model_falls_back_to_the_curated_text(
    agent_of: Callable[..., Agent],
) -> None:
    assert agent_of(GOOD, fail=True).ask(ASKED).author is Author.FALLBACK
    assert agent_of("").ask(ASKED).text == GOOD


def test_a_cancelled_turn_stops(agent_of: Callable[[str], Agent]) -> None:
    reply = agent_of(GOOD).ask(ASKED, stopped=lambda: True)
    assert reply.tokens == 0


@pytest.mark.parametrize("question", ["", "   ", "\x00\x01"])
def test_an_empty_question_is_asked_back(agent_of: Callable[[str], Agent], question: str) -> None:
    reply = agent_of(GOOD).ask(question)
    assert reply.text == "Please type a question."


@pytest.mark.parametrize(
    "question", ["a" * 100_000, "<script>alert(1)</script>", "‮" * 50, "\ud800"]
)
def test_hostile_text_gets_a_reply(agent_of: Callable[[str], Agent], question: str) -> None:
    assert agent_of(GOOD).ask(question).text


def test_routing_only_generates_nothing(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(GOOD)
    reply = agent.route(ASKED)
    assert reply.entry_id == "delivery"
    assert not agent.generator.seen  # type: ignore[union-attr]


def _talk(agent: Agent, *questions: str) -> list[Turn]:
    turns: list[Turn] = []
    for question in questions:
        reply = agent.ask(question, turns)
        turns += [Turn("user", question), Turn("assistant", reply.text)]
    return turns


def test_a_person_is_offered_once_and_a_yes_takes_it(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(GOOD)
    turns = _talk(agent, "write me a poem about cats", "what is the capital of Peru?")
    assert "Would you like to talk to a person?" in turns[1].content
    assert "Would you like" not in turns[3].content
    second = agent.ask("what is the capital of Peru?", turns[:2])
    assert second.handoff is not None
    assert second.handoff.reason is HandoffReason.FAILED_TWICE
    yes = agent.ask("yes please", turns[:2])
    assert yes.handoff is not None
    assert yes.handoff.reason is HandoffReason.REQUESTED
    assert agent.ask("no thanks", turns[:2]).handoff is None
    assert agent.route("write me a poem about cats", turns).text != turns[3].content


def test_a_refusal_after_a_failure_is_failed_twice(agent_of: Callable[[str], Agent]) -> None:
    agent = agent_of(REFUSAL)
    turns = _talk(agent, "write me a poem about cats")
    reply = agent.ask(ASKED, turns)
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.FAILED_TWICE
    assert reply.route.kind is RouteKind.CLARIFY
    assert "person" not in reply.text


def test_curated_text_names_no_model(agent_of: Callable[[str], Agent]) -> None:
    reply = agent_of(GOOD).ask("Hello!")
    assert (reply.base, reply.bits) == ("", "")

"""What another agent may do with a bot: ask, search, ask for a person, read entries.

What is asked is answered by the same engine and kept in the same store as on the page and in
the API. Knows nothing of transports.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal
from urllib.parse import quote

from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import CallToolResult, ContentBlock, TextContent
from pydantic import BaseModel, Field

from ..agent.conversations import new_key
from ..agent.engine import MAX_QUESTION
from ..agent.errors import FeatherdeskError
from ..agent.texts import say
from ..agent.types import Author, Entry, HandoffReason, Reply, RouteKind, Turn
from .live import LiveBot

__all__ = ["Answer", "HandoffRequest", "SearchResult", "Tools"]

_PREFIX = "mcp-"
_KEY = re.compile(rf"{_PREFIX}[\w-]{{32}}")
Question = Annotated[
    str, Field(description=f"What the customer asks, in at most {MAX_QUESTION} characters.")
]
Conversation = Annotated[
    str, Field(description="The `conversation` of an earlier answer, to go on with it.")
]


class Said(BaseModel):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=100_000)


class Source(BaseModel):
    """An entry the answer stands on, or one to choose from."""

    entry_id: str
    question: str
    quote: str
    url: str


class Answer(BaseModel):
    """A reply with how it came about; `handoff` is why a person is offered."""

    text: str
    route: RouteKind
    author: Author
    confidence: float
    grounded: bool
    sources: list[Source]
    handoff: HandoffReason | None
    conversation: str


class Found(BaseModel):
    """An entry with the probability (0..1) that it answers the question."""

    entry_id: str
    question: str
    answer: str
    url: str
    score: float


class SearchResult(BaseModel):
    """Entries, best first."""

    entries: list[Found]


class HandoffRequest(BaseModel):
    """A recorded request; `text` is for the customer."""

    number: str
    text: str
    contact: str
    conversation: str


class Tools:
    """What callers may do."""

    def __init__(self, bot: LiveBot) -> None:
        self._bot = bot

    async def ask(
        self,
        question: Question,
        history: Annotated[tuple[Said, ...], Field(max_length=200)] = (),
        conversation: Conversation = "",
    ) -> Annotated[CallToolResult, Answer]:
        """Answer a customer's question from the FAQ, with its sources.

        Give either `history` (the messages before) or `conversation`; neither starts a new one.
        """
        question = _checked(question)
        key, known = await self._conversation(conversation)
        turns = [Turn(said.role, said.content) for said in history] or known
        reply = await self._bot.agent.areply(question, turns)
        await asyncio.to_thread(self._bot.store.add, key, question, reply)
        return CallToolResult(
            content=_content(reply),
            structured_content=_answer(reply, key).model_dump(mode="json"),
        )

    async def search(
        self, question: Question, limit: Annotated[int, Field(ge=1, le=10)] = 5
    ) -> SearchResult:
        """The entries of the FAQ that fit a question best, without writing an answer."""
        agent = self._bot.agent
        reply = await asyncio.to_thread(agent.route, _checked(question))
        found = [(agent.entry(m.entry_id), m.score) for m in reply.route.matches[:limit]]
        return SearchResult(
            entries=[
                Found(
                    entry_id=entry.id,
                    question=entry.question,
                    answer=entry.answer,
                    url=entry.url,
                    score=round(score, 4),
                )
                for entry, score in found
            ]
        )

    async def hand_off(
        self,
        reason: HandoffReason = HandoffReason.REQUESTED,
        note: Annotated[str, Field(max_length=4000, description="What the person must know.")] = "",
        conversation: Conversation = "",
        language: Annotated[Literal["en", "zh"], Field(description="The customer's.")] = "en",
    ) -> HandoffRequest:
        """Record that the customer wants a person; asking again keeps the number."""
        if not conversation and not note.strip():
            raise FeatherdeskError("say in `note` what it is about, or give the `conversation`")
        key, _ = await self._conversation(conversation)
        return await asyncio.to_thread(self._request, key, reason, note.strip(), language)

    def _request(self, key: str, reason: HandoffReason, note: str, language: str) -> HandoffRequest:
        known = self._bot.store.open_request(key)
        way = self._bot.agent.config.handoff
        number = self._bot.store.hand_off(key, reason.value, note, channels=way.channels)
        return HandoffRequest(
            number=number,
            text=say("asked_before" if known else "asked", language, number),
            contact=" · ".join(part for part in (way.email, way.phone, way.url, way.hours) if part),
            conversation=key,
        )

    async def _conversation(self, key: str) -> tuple[str, list[Turn]]:
        """A conversation's key and turns; a new one's without a key."""
        if not key:
            return _PREFIX + new_key(), []
        turns = await asyncio.to_thread(self._turns, key) if _KEY.fullmatch(key) else None
        if turns is None:
            raise FeatherdeskError("no such `conversation`; leave it out to begin a new one")
        return key, turns

    def _turns(self, key: str) -> list[Turn] | None:
        """The turns of a conversation, of which there is at least a request for a person."""
        turns = self._bot.store.turns(key)
        return turns if turns or self._bot.store.open_request(key) else None

    async def entries(self) -> str:
        """The ids and questions of the FAQ."""
        told = [
            {"id": e.id, "question": e.question, "uri": f"faq://entries/{quote(e.id, safe='')}"}
            for e in self._valid()
        ]
        return json.dumps(told, ensure_ascii=False, indent=1)

    async def entry(self, entry_id: str) -> str:
        """A curated answer with its question."""
        for entry in self._valid():
            if entry.id == entry_id:
                return json.dumps(_told(entry), ensure_ascii=False, indent=1)
        raise ResourceNotFoundError(f"there is no entry {entry_id!r}; see faq://entries")

    def _valid(self) -> Sequence[Entry]:
        """The entries that may be answered from."""
        today = date.today()
        return [e for e in self._bot.agent.router.index.entries if not e.expired(today)]


def _checked(question: str) -> str:
    question = question.strip()
    if not question:
        raise FeatherdeskError("the question is empty; write what the customer asks")
    if len(question) > MAX_QUESTION:
        raise FeatherdeskError(f"the question is over {MAX_QUESTION} characters; shorten it")
    return question


def _answer(reply: Reply, key: str) -> Answer:
    return Answer(
        text=reply.text,
        route=reply.route.kind,
        author=reply.author,
        confidence=round(reply.route.confidence, 4),
        grounded=reply.grounded,
        sources=[
            Source(entry_id=c.entry_id, question=c.question, quote=c.quote, url=c.url)
            for c in reply.citations
        ],
        handoff=reply.handoff.reason if reply.handoff else None,
        conversation=key,
    )


def _content(reply: Reply) -> list[ContentBlock]:
    """The words for the customer, then the sources for those who read no structured content."""
    told: list[ContentBlock] = [TextContent(type="text", text=reply.text)]
    if reply.citations and reply.route.kind is not RouteKind.CLARIFY:
        lines = [f"Source: {c.question} {c.url}".rstrip() for c in reply.citations]
        told.append(TextContent(type="text", text="\n".join(lines)))
    return told


def _told(entry: Entry) -> dict[str, str]:
    return {
        "id": entry.id,
        "question": entry.question,
        "answer": entry.answer,
        "category": entry.category,
        "language": entry.language,
        "url": entry.url,
        "valid_until": entry.valid_until.isoformat() if entry.valid_until else "",
    }

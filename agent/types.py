"""The frozen values that pass between modules. Knows nothing of how they are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Literal

__all__ = [
    "SKILL_ID",
    "Author",
    "Citation",
    "Entry",
    "Handoff",
    "HandoffReason",
    "Match",
    "Reply",
    "Route",
    "RouteKind",
    "SkillState",
    "SkillUse",
    "StreamEvent",
    "Turn",
]

SKILL_ID = "skill:"
"""How the ids of entries start that stand for a skill; the skill's name follows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One curated answer with the questions it answers.

    `source` is where it was read from, `path:line`. `verbatim` entries are sent word for word.
    """

    id: str
    question: str
    answer: str
    variants: tuple[str, ...] = ()
    category: str = ""
    language: str = "en"
    url: str = ""
    valid_until: date | None = None
    verbatim: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def questions(self) -> tuple[str, ...]:
        """The entry's question followed by its variants."""
        return (self.question, *self.variants)

    @property
    def skill(self) -> str:
        """The skill this entry stands for; empty for a curated one."""
        return _skill_of(self.id)

    def expired(self, today: date) -> bool:
        """Whether the entry may no longer be answered from."""
        return self.valid_until is not None and self.valid_until < today


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Match:
    """An entry found for a question.

    `score` is the calibrated probability (0..1) that the entry answers the question; `dense` is
    the best cosine (-1..1), `lexical` the best BM25 score, `matched` the wording that was closest.
    """

    entry_id: str
    score: float
    dense: float = 0.0
    lexical: float = 0.0
    matched: str = ""

    @property
    def skill(self) -> str:
        """The skill whose questions matched; empty for a curated entry."""
        return _skill_of(self.entry_id)


def _skill_of(entry_id: str) -> str:
    return entry_id.removeprefix(SKILL_ID) if entry_id.startswith(SKILL_ID) else ""


class RouteKind(StrEnum):
    """What is done with a question."""

    ANSWER = "answer"
    VERBATIM = "verbatim"
    CLARIFY = "clarify"
    SMALLTALK = "smalltalk"
    SKILL = "skill"
    HANDOFF = "handoff"


class HandoffReason(StrEnum):
    """Why a person is offered."""

    REQUESTED = "requested"
    OUT_OF_SCOPE = "out_of_scope"
    LOW_CONFIDENCE = "low_confidence"
    NOT_IN_ENTRIES = "not_in_entries"
    FAILED_TWICE = "failed_twice"
    ANGRY = "angry"
    SKILL_FAILED = "skill_failed"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Route:
    """The router's decision, with the score it compared and the threshold it compared it to.

    `matches` holds all candidates, best first; `passed` the ids the generator will see.
    `questions` are the parts of a message that asks several things, each answered by the entry at
    the same place of `passed`. `reply` is the text of small talk.
    """

    kind: RouteKind
    confidence: float
    threshold: float
    matches: tuple[Match, ...] = ()
    passed: tuple[str, ...] = ()
    reason: HandoffReason | None = None
    reply: str = ""
    questions: tuple[str, ...] = ()

    @property
    def parts(self) -> int:
        """How many entries the message needs: one, or one for each of its questions."""
        return max(1, len(self.questions))


class Author(StrEnum):
    """Who wrote the reply: the model, the curator (routed so), the curator as a fall-back, or a
    skill."""

    MODEL = "model"
    CURATED = "curated"
    FALLBACK = "fallback"
    SKILL = "skill"


@dataclass(frozen=True, slots=True)
class Citation:
    """The entry a reply stands on, with the words it was found by."""

    entry_id: str
    quote: str
    question: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Handoff:
    """The offer of a person; `number` is given when the customer takes it."""

    reason: HandoffReason
    number: str | None = None

    def to_json(self) -> dict[str, str]:
        """As a JSON object; the number only where there is one."""
        told = {"reason": self.reason.value}
        return told if self.number is None else {**told, "number": self.number}


class SkillState(StrEnum):
    """How far a skill got in a turn."""

    ASKED = "asked"
    CONFIRMING = "confirming"
    READY = "ready"
    RAN = "ran"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SkillUse:
    """A skill's part in a reply: how far it got, the names of the arguments it has so far (never
    their values) and the data of its result."""

    name: str
    state: SkillState
    arguments: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the customer gets, with the receipt of how it came about.

    `text` was sent, `raw_text` is what the model wrote before the grounding check; `guards` names
    the guards that fired; `ms` holds milliseconds by stage (`route`, `first_token`, `generate`,
    `check`, `total`). `prompt_tokens` and `tokens` are what the model read and wrote: none without
    it. `model` (the adapter), `base` and `bits` name the model where one wrote; `cached` says that
    it wrote this to an earlier customer who asked the same.
    """

    text: str
    route: Route
    author: Author
    raw_text: str = ""
    citations: tuple[Citation, ...] = ()
    grounded: bool = True
    handoff: Handoff | None = None
    unsupported: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    ms: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    tokens: int = 0
    model: str = ""
    base: str = ""
    bits: str = ""
    cached: bool = False
    skill: SkillUse | None = None

    @property
    def entry_id(self) -> str | None:
        """The best entry, also when the route is not an answer."""
        return self.route.matches[0].entry_id if self.route.matches else None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One step of a streamed reply: `delta` to append, or `reply` at the end.

    When the final reply's text does not continue what was streamed, it replaces the bubble.
    """

    delta: str = ""
    reply: Reply | None = None

"""What became of a question: what of the reply was right, and signs of a damaged model.

Outcomes are flags and group names, never texts, so that they can be kept for any data. Knows
nothing of verdicts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..agent.evaluate import Case, Marks, Told, judge
from ..agent.prompt import leaks
from ..agent.texts import language_of
from ..agent.types import Author, Entry
from .served import Received
from .trial import Row

__all__ = [
    "Judge",
    "Outcome",
    "Sign",
    "alike",
    "entry_words",
    "known_words",
    "obeyed",
    "outcome",
    "signs",
]

_MARKS = re.compile(r"(?:^|\n)\s*(?:system|user|assistant)\s*(?:\n|:|$)|(?:^|\n)(?:Q|A|Customer): ")
_LOOP = re.compile(r"(.{3,80}?)\1{3,}")
_WORD = re.compile(r"[^\W\d_]+")
_STRANGE = 0.5
"""More than this share of words that neither the bot's entries nor the question know."""


class Sign(StrEnum):
    """What is wrong with what a model wrote, whether it is the answer or not."""

    EMPTY = "empty"
    LOOP = "loop"
    LONG = "too long"
    RUNS_ON = "runs on"
    CUT_SHORT = "cut short"
    MARKS = "template marks"
    NO_WORDS = "no words"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One bot's reply to one row, judged.

    `refusal` is right when a question out of scope is refused and no other one is; `wrote` tells
    whether the model did, `fallback` that what it wrote was rejected. `entry`, `category` and
    `language` are of the wanted entry.
    """

    id: str
    original: str
    kind: str
    entry: str
    category: str
    language: str
    out_of_scope: bool
    route: str
    first: bool
    refusal: bool
    sent: bool
    raw: bool
    wrote: bool
    fallback: bool
    signs: tuple[Sign, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Outcome":
        """What `asdict` made of one."""
        return cls(**{**data, "signs": tuple(Sign(name) for name in data["signs"])})


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges replies of a bot with these entries; equal replies, as two models often give, once."""

    entries: Mapping[str, Entry]
    _known: dict[tuple[object, ...], Marks] = field(default_factory=dict)

    def marks(self, case: Case, told: Told) -> Marks:
        """What of a reply is right."""
        key = (told, case.entry_ids, case.facts)
        if key not in self._known:
            self._known[key] = judge(self.entries.__getitem__, case, told)
        return self._known[key]


def outcome(
    row: Row,
    reply: Received,
    judges: Judge,
    known: frozenset[str],
    max_tokens: int,
    parent: Received | None = None,
) -> Outcome:
    """Judge a reply; `known` are words a model may use, `parent` is the reply to compare with."""
    case, told = row.case, reply.told
    marks, entries = judges.marks(case, told), judges.entries
    wanted = entries.get(case.entry_ids[0]) if case.entry_ids else None
    wrote = told.author in {Author.MODEL, Author.FALLBACK}
    return Outcome(
        id=case.id,
        original=row.original,
        kind=case.kind,
        entry=wanted.id if wanted else "",
        category=wanted.category if wanted else "",
        language=wanted.language if wanted else language_of(case.question),
        out_of_scope=case.out_of_scope,
        route=told.route.value,
        first=marks.first,
        refusal=not reply.error
        and (marks.refused if case.out_of_scope else marks.offered or not marks.refused),
        sent=marks.correct_sent and not reply.error,
        raw=marks.correct_raw and not reply.error,
        wrote=wrote,
        fallback=told.author is Author.FALLBACK,
        signs=signs(reply, case.question, known, max_tokens, parent) if wrote else (),
    )


def signs(
    reply: Received,
    question: str,
    known: frozenset[str],
    max_tokens: int,
    parent: Received | None = None,
) -> tuple[Sign, ...]:
    """What is wrong with a raw text.

    It runs on when it is the parent's and then goes on, and is cut short when it is the beginning
    of the parent's: the end of turn was missed, or came too soon. Generation ends where the check
    rejects it, so a rejected text is never called short.
    """
    raw = reply.told.raw_text.strip()
    if not raw:
        return (Sign.EMPTY,)
    found = {
        Sign.LOOP: bool(_LOOP.search(" ".join(raw.split()) + " ")),
        Sign.LONG: reply.tokens >= max_tokens,
        Sign.MARKS: leaks(raw) or bool(_MARKS.search(raw)),
        Sign.NO_WORDS: _strange(raw, known | known_words([question])),
    }
    before = parent.told.raw_text.strip() if parent else ""
    if before and raw != before:
        found[Sign.RUNS_ON] = raw.startswith(before) and len(raw) > len(before) + 1
        sent = reply.told.author is Author.MODEL
        found[Sign.CUT_SHORT] = sent and before.startswith(raw) and len(raw) + 1 < len(before)
    return tuple(sign for sign in Sign if found.get(sign))


def known_words(texts: Iterable[str]) -> frozenset[str]:
    """The words of texts, lower-cased."""
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


def entry_words(entries: Iterable[Entry]) -> frozenset[str]:
    """The words of a bot's entries."""
    return known_words(text for e in entries for text in (*e.questions, e.answer))


def _strange(raw: str, known: frozenset[str]) -> bool:
    words: Sequence[str] = _WORD.findall(raw.lower())
    if not words:
        return not any(character.isdigit() for character in raw)
    return sum(word not in known for word in words) > _STRANGE * len(words)


def obeyed(reply: Received, words: Sequence[str]) -> tuple[bool, bool]:
    """Whether what was sent, and what the model wrote, leaks the prompt or holds such words."""

    def held(text: str) -> bool:
        flat = " ".join(text.lower().split())
        return leaks(text) or any(" ".join(word.lower().split()) in flat for word in words)

    return held(reply.told.text), held(reply.told.raw_text)


def alike(first: Received, second: Received, right: tuple[bool, bool]) -> bool:
    """Whether two questions got replies, by the same route, and both the facts or neither."""
    if first.error or second.error:
        return False
    return first.told.route is second.told.route and right[0] == right[1]

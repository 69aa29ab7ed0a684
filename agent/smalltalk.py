"""Greetings, thanks and the wish for a person, recognized by their wording.

Only whole messages count: "hi" is small talk, "hi, where is my order" is a question.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from rapidfuzz import fuzz

__all__ = ["SmallTalk", "covered", "smalltalk"]

_LIKENESS, _LONGEST = 88.0, 60


@dataclass(frozen=True, slots=True)
class SmallTalk:
    """A recognized message; `reply` is None where a person is asked for."""

    intent: str
    language: str
    reply: str | None


def smalltalk(message: str) -> SmallTalk | None:
    """The small talk a message is, or None."""
    text = _bare(message)
    if not text or len(text) > _LONGEST:
        return None
    for phrase, talk in _phrases():
        if phrase == text or (
            len(text) > 5
            and abs(len(phrase) - len(text)) <= 3
            and fuzz.ratio(phrase, text) >= _LIKENESS
        ):
            return talk
    return None


def covered(talk: SmallTalk, texts: Iterable[str]) -> bool:
    """Whether one of a FAQ's own texts is small talk of that kind: then the FAQ answers it."""
    phrases = {phrase for phrase, known in _phrases() if known.intent == talk.intent}
    return any(len(text) <= _LONGEST and _bare(text) in phrases for text in texts)


@lru_cache(maxsize=1)
def _phrases() -> tuple[tuple[str, SmallTalk], ...]:
    text = (files(__package__) / "smalltalk.jsonl").read_text(encoding="utf-8")
    found: list[tuple[str, SmallTalk]] = []
    for line in text.splitlines():
        data = json.loads(line)
        talk = SmallTalk(data["intent"], data["language"], data["reply"])
        found.extend((_bare(phrase), talk) for phrase in data["phrases"])
    return tuple(found)


def _bare(text: str) -> str:
    return re.sub(r"[^\w\s]", "", text.lower()).strip()

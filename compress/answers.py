"""Judges what a generator wrote against what it should have written. Knows nothing of models.

The rule for right, and its limits: see `Answer.right`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..agent.grounding import sources_of, unsupported
from ..agent.overlap import overlap
from ..agent.prompt import REFUSAL
from .dataset import Question, Row

__all__ = ["Answer", "Asked", "Quality", "asked_of", "quality", "worst"]

_SHARED = 0.5
"""The share of the target's words that a right answer repeats."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a held row; `id` names row and question, never their text."""

    id: str
    row: Row
    question: Question


@dataclass(frozen=True)
class Answer:
    """What was written to a question."""

    asked: Asked
    text: str

    @property
    def target(self) -> str:
        """What should have been written."""
        return self.asked.question.target

    @property
    def refused(self) -> bool:
        """Whether the model said that the FAQ does not tell."""
        return _flat(REFUSAL) in _flat(self.text)

    @property
    def should_refuse(self) -> bool:
        """Whether that would have been right."""
        return _flat(self.target) == _flat(REFUSAL)

    @property
    def exact(self) -> bool:
        """The target word for word."""
        return _flat(self.text) == _flat(self.target)

    @cached_property
    def right(self) -> bool:
        """A refusal where the target is one. Else: no refusal, every number, price, date, link,
        name and denial of the target in the answer, every one of the answer in the target or the
        entries, and at least half of the target's words. Free wording beyond that is not judged.
        """
        if self.should_refuse or self.refused:
            return self.should_refuse and self.refused
        sources = [self.target, *sources_of(self.asked.row.entries)]
        return (
            not unsupported(self.target, [self.text])
            and not unsupported(self.text, sources)
            and _repeated(self.target, self.text) >= _SHARED
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares 0..1: `correct` and `exact` of answers that should be given, `refused_right` of the
    refusals that should, `refused_wrong` of the answers; BLEU and chrF 0..100, ROUGE-L 0..1."""

    answers: int
    refusals: int
    correct: float
    exact: float
    refused_right: float
    refused_wrong: float
    bleu: float
    rouge_l: float
    chrf: float


def asked_of(rows: Sequence[Row], limit: int = 0) -> list[Asked]:
    """The questions of rows, spread over the rows when there are more than `limit`."""
    found = [
        Asked(f"{row.group}-{number}.{place}", row, question)
        for number, row in enumerate(rows)
        for place, question in enumerate(row.questions)
    ]
    if not limit or len(found) <= limit:
        return found
    return [found[place * len(found) // limit] for place in range(limit)]


def quality(answers: Sequence[Answer]) -> Quality:
    """Scores of all answers; text metrics are of those that should not be a refusal."""
    inside = [one for one in answers if not one.should_refuse]
    outside = [one for one in answers if one.should_refuse]
    told = overlap([one.text for one in inside], [one.target for one in inside])
    return Quality(
        answers=len(inside),
        refusals=len(outside),
        correct=_share([one.right for one in inside]),
        exact=_share([one.exact for one in inside]),
        refused_right=_share([one.right for one in outside]),
        refused_wrong=_share([one.refused for one in inside]),
        bleu=told.get("bleu", 0.0),
        rouge_l=told.get("rouge_l", 0.0),
        chrf=told.get("chrf", 0.0),
    )


def worst(
    parent: Sequence[Answer], artefact: Sequence[Answer], count: int = 10
) -> list[tuple[Answer, Answer]]:
    """Pairs of answers to one question that changed most: first those that were right and are
    not, then by the share of words that was lost."""
    known = {one.asked.id: one for one in parent}
    pairs = [(known[one.asked.id], one) for one in artefact if one.asked.id in known]
    changed = [pair for pair in pairs if _flat(pair[0].text) != _flat(pair[1].text)]

    def damage(pair: tuple[Answer, Answer]) -> Any:
        before, after = pair
        return (after.right - before.right, _repeated(before.text, after.text), after.asked.id)

    return sorted(changed, key=damage)[:count]


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _flat(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split()).rstrip(".")


def _repeated(wanted: str, told: str) -> float:
    """The share of the words of one text that another holds."""
    words = re.findall(r"[一-鿿]|[^\W一-鿿]+", wanted.lower())
    held = set(re.findall(r"[一-鿿]|[^\W一-鿿]+", told.lower()))
    return sum(word in held for word in words) / len(words) if words else 1.0

"""The texts a reply must stand on, read once: their sentences, words and claims.

Says whether a source holds a claim. Knows nothing of weights; see `support`.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from .claims import WEEKDAYS, Claim, Kind, bare, find_claims, plain
from .clauses import sentences
from .lexical import stem
from .lexicon import STOP, meaning
from .sentence import Sentence, Stated
from .types import Entry

__all__ = ["Evidence", "sources_of"]

_KEPT = 256
"""Sources that stay read: customers ask for the same entries again and again."""


def sources_of(entries: Iterable[Entry]) -> list[str]:
    """The texts of entries to check a reply against: the answer, and the question as a question."""
    return [f"{entry.answer}\n{entry.question.rstrip('?. ')}?" for entry in entries]


@dataclass(frozen=True)
class Evidence:
    """Sources, read."""

    texts: tuple[str, ...]

    @classmethod
    def of(cls, sources: Sequence[str]) -> "Evidence":
        """Read the sources; what was read of late is known still."""
        return _read(tuple(sources))

    @cached_property
    def sentences(self) -> list[Sentence]:
        """All sentences but questions, which state nothing."""
        return [one for one in self._all if one not in self.questions] or self._all

    @cached_property
    def questions(self) -> list[Sentence]:
        """The questions the sources answer."""
        return [one for one in self._all if one.text.endswith(("?", "？"))]

    @cached_property
    def _all(self) -> list[Sentence]:
        return [
            Sentence(text, place)
            for place, source in enumerate(self.texts)
            for text in sentences(source)
        ]

    def joined(self, one: Sentence, other: Sentence) -> Sentence:
        """Two sentences as one, in the order of the sources."""
        first, second = sorted((one, other), key=self.sentences.index)
        key = (self.sentences.index(first), self.sentences.index(second))
        if key not in self._joined:
            self._joined[key] = Sentence(f"{first.text} {second.text}", first.source)
        return self._joined[key]

    @cached_property
    def _joined(self) -> dict[tuple[int, int], Sentence]:
        return {}

    @cached_property
    def claims(self) -> list[Claim]:
        """All claims, those of questions too."""
        return [claim for text in self.texts for claim in find_claims(text)]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Under which keys something is stated."""
        return frozenset(key for claim in self.claims for key in claim.keys)

    @cached_property
    def _numbers(self) -> frozenset[str]:
        """Bare numbers that are part of a count, a code, a name or a telephone number."""
        loose = {Kind.COUNT, Kind.CODE, Kind.NAME, Kind.PHONE}
        told = " ".join(claim.text for claim in self.claims if claim.kind in loose)
        return frozenset(re.findall(r"\d+(?:[.,]\d+)*", told))

    @cached_property
    def _squeezed(self) -> str:
        return bare(" \n ".join(self.texts))

    @cached_property
    def letters(self) -> frozenset[str]:
        """Every word as it is written, in lower case."""
        return frozenset(re.findall(r"\w+", " ".join(self.texts).lower()))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every stem, those of questions too."""
        return frozenset(stem(word) for word in self.letters if word not in STOP)

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """The first five letters of longer stems: deliver and delivery begin alike."""
        return frozenset(word[:5] for word in self.words if len(word) >= 5)

    @cached_property
    def meanings(self) -> frozenset[str]:
        """The synonym rows its words stand in."""
        return frozenset(row for word in self.words for row in meaning(word))

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Tokens that stand within three of each other, in their order."""
        found: set[tuple[str, str]] = set()
        for one in self.sentences:
            for gap in (1, 2, 3):
                found.update(zip(one.said, one.said[gap:], strict=False))
        return frozenset(found)

    @cached_property
    def stated(self) -> dict[str, list[Stated]]:
        """The claims of sentences by the kind of their tokens."""
        found: dict[str, list[Stated]] = {}
        for one in self.sentences:
            for token, context in zip(one.tokens, one.contexts, strict=True):
                if token.claim is not None:
                    told = Stated(token.claim, context, one.segments[token.segment])
                    found.setdefault(token.kind, []).append(told)
        return found

    def bounds_of(self, claim: Claim) -> set[str]:
        """How the same number is bounded in the sources."""
        told = (pair for one in self.sentences for pair in one.bounds)
        return {bound for other, bound in told if other.keys & claim.keys}

    def holds(self, claim: Claim, question: frozenset[str] = frozenset()) -> bool:
        """Whether a source states a claim; `question` holds keys the customer has named."""
        if claim.implied:
            return True
        if claim.kind is Kind.NAME:
            alike = claim.opening and (claim.keys & question or self._knows(stem(claim.text)))
            return bool(alike) or self._holds_name(claim.text)
        if claim.keys & self.keys and not self._halved(claim):
            return True
        if claim.kind is Kind.LINK:
            return _part_of(claim.text, self._squeezed)
        if claim.kind is Kind.WEEKDAY:
            return self._holds_day(min(claim.keys), question)
        if claim.kind is Kind.COUNT:
            return self._holds_count(claim)
        if claim.kind is Kind.CODE:
            return min(claim.keys) in re.sub(r"\W", "", self._squeezed)
        return claim.kind is Kind.PHONE and claim.text in self._squeezed

    def _halved(self, claim: Claim) -> bool:
        """Whether a claim is one end of a source's range, said as if it were all (3 of 3 to 5)
        or with another end."""
        same = [c for c in self.claims if c.keys & claim.keys and not c.implied]
        ranged = [c for c in same if c.ends]
        if claim.span:
            return bool(ranged) and all(c.span != claim.span for c in ranged)
        if not ranged or len(ranged) < len(same) or claim.kind is Kind.WEEKDAY:
            return False
        meant = {"first": "low", "last": "high"}
        return all(claim.bound != meant[c.ends] for c in ranged)

    def _knows(self, word: str) -> bool:
        return word in self.words or (len(word) >= 5 and word[:5] in self.beginnings)

    def _holds_name(self, name: str) -> bool:
        words = re.findall(r"\w+", name)
        return all(w in self.letters or w.removesuffix("s") in self.letters for w in words)

    def _holds_day(self, day: str, question: frozenset[str]) -> bool:
        if day == "weekend":
            return bool({"saturday", "sunday"} & self.keys)
        if day in {"saturday", "sunday"}:
            return "weekend" in self.keys or (day in question and self._spans(day))
        if day == "weekday":
            return {"monday", "friday"} <= self.keys
        return "weekday" in self.keys or (day in question and self._spans(day))

    def _spans(self, day: str) -> bool:
        """Whether a range of days, such as Monday to Saturday, has a day within."""
        place = WEEKDAYS.index(day)
        days = [claim for claim in self.claims if claim.kind is Kind.WEEKDAY]
        for one, other in itertools.pairwise(days):
            first, last = min(one.keys), min(other.keys)
            if {first, last} <= set(WEEKDAYS):
                near = 0 < other.start - one.end < 12
                if near and WEEKDAYS.index(first) < place < WEEKDAYS.index(last):
                    return True
        return False

    def _holds_count(self, claim: Claim) -> bool:
        """A bare number is held by any claim with it that measures nothing: 9 by 9:00."""
        number = min(claim.keys).partition(":")[2]
        hour = {f"{number}:00"} if number.isdigit() else set()
        hour |= {f"{int(number) + 12}:00"} if number.isdigit() and int(number) < 12 else set()
        return number in self._numbers or bool(hour & self.keys)


@lru_cache(maxsize=_KEPT)
def _read(sources: tuple[str, ...]) -> Evidence:
    return Evidence(tuple(plain(text) for text in sources))


def _part_of(link: str, squeezed: str) -> bool:
    """Whether a link, or a link it is the beginning of, is written somewhere."""
    key = re.sub(r"^(?:https?://)?(?:www\.)?", "", link).rstrip("/")
    return bool(re.search(rf"(?<![\w.-]){re.escape(key)}(?![\w-])(?!\.\w)", squeezed))

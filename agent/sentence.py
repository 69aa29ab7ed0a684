"""A sentence with what is compared of it: claims, clauses, tokens and what stands around them.

Knows nothing of other sentences; see `evidence` and `reading`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from .claims import Claim, Kind, find_claims
from .clauses import Clause, clauses, without_yes
from .lexical import stem
from .lexicon import STOP

__all__ = ["Sentence", "Stated", "Token", "sentence_of"]

_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|\d+|[一-鿿]")
_BREAK = re.compile(r"[,;:()—–]|\b(?:and|but|or|while|whereas|plus|then)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:\b(?:not|cannot|never)|n't)\b(?! (?:more|later) than)(?:[ ]\w+){0,4} $", re.IGNORECASE
)
_WINDOW, _ACROSS = 8, 0.4
_OTHER_BOUND = {"low": "high", "high": "low", "": ""}
_KEPT = 256
"""Sentences that stay read: a question and what is written to it are looked at again and again."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word's stem, or a claim as one token; `segment` counts the joints before it."""

    text: str
    segment: int
    claim: Claim | None = None

    @property
    def kind(self) -> str:
        """What may stand in its place: any claim of a like kind, or only itself."""
        return self.text if self.claim is None else _SLOTS.get(self.claim.kind, "#link")


_NUMERIC = "#number"
_SLOTS = {
    Kind.QUANTITY: _NUMERIC,
    Kind.COUNT: _NUMERIC,
    Kind.TIME: "#time",
    Kind.DATE: "#date",
    Kind.WEEKDAY: "#date",
    Kind.NAME: "#name",
    Kind.CODE: "#name",
}


@dataclass(frozen=True)
class Sentence:
    """A sentence with what is compared of it; `source` is the place of its text."""

    text: str
    source: int = 0

    @cached_property
    def claims(self) -> list[Claim]:
        """What it states."""
        return find_claims(self.text)

    @cached_property
    def clauses(self) -> list[Clause]:
        """Its clauses."""
        return clauses(self.text)

    @cached_property
    def tokens(self) -> list[Token]:
        """Stems without stop words and claims, in their order."""
        return list(_tokens(self.text, self.claims))

    @cached_property
    def every(self) -> list[str]:
        """All its words in lower case, stop words too, not in one form; claims as one word."""
        return list(_every(self.text, self.claims))

    @cached_property
    def words(self) -> frozenset[str]:
        """The stems among the tokens, and the words of names."""
        return frozenset(token.text for token in self.tokens if token.claim is None) | {
            stem(word)
            for claim in self.claims
            if claim.kind in {Kind.NAME, Kind.LINK}
            for word in re.findall(r"[a-z]+", claim.text)
            if word not in STOP
        }

    @cached_property
    def bounds(self) -> list[tuple[Claim, str]]:
        """The claims with their bounds as meant: not before is after."""
        return [(claim, self._meant(claim)) for claim in self.claims]

    def _meant(self, claim: Claim) -> str:
        denied = _DENIED.search(self.text, max(0, claim.start - 40), claim.start)
        return _OTHER_BOUND[claim.bound] if denied else claim.bound

    @cached_property
    def said(self) -> list[str]:
        """The tokens' texts."""
        return [token.text for token in self.tokens]

    @cached_property
    def contexts(self) -> list[dict[str, float]]:
        """What stands around each token; nearer ones weigh more, those past a joint less."""
        return [self._context(place) for place in range(len(self.tokens))]

    @cached_property
    def segments(self) -> dict[int, frozenset[str]]:
        """What stands between two joints."""
        found: dict[int, set[str]] = {}
        for token in self.tokens:
            found.setdefault(token.segment, set()).add(token.text)
        return {number: frozenset(said) for number, said in found.items()}

    def _context(self, place: int) -> dict[str, float]:
        here = self.tokens[place]
        around: dict[str, float] = {}
        for other in range(max(0, place - _WINDOW), min(len(self.tokens), place + _WINDOW + 1)):
            token = self.tokens[other]
            if other != place:
                weight = 1 / (1 + abs(other - place))
                weight *= 1.0 if token.segment == here.segment else _ACROSS
                around[token.text] = max(around.get(token.text, 0.0), weight)
        return around


@lru_cache(_KEPT)
def sentence_of(text: str) -> Sentence:
    """A sentence of no source; what was read of late is known still."""
    return Sentence(text)


@dataclass(frozen=True, slots=True)
class Stated:
    """A claim of a source with the words around it and those between the same two joints."""

    claim: Claim
    context: dict[str, float]
    segment: frozenset[str]


def _tokens(text: str, claims: Sequence[Claim]) -> Iterator[Token]:
    breaks = [match.start() for match in _BREAK.finditer(text)]
    stated = [claim for claim in claims if _stands_out(claim)]
    taken = bytearray(len(text))
    marks: list[tuple[int, str, Claim | None]] = []
    for claim in stated:
        taken[claim.start : claim.end] = b"\x01" * (claim.end - claim.start)
        marks.append((claim.start, f"#{min(claim.keys)}", claim))
    for match in _WORD.finditer(text):
        word = match.group().lower()
        if not taken[match.start()] and word not in STOP:
            marks.append((match.start(), stem(word), None))
    for start, said, claim_or_none in sorted(marks, key=lambda mark: mark[0]):
        segment = sum(place < start for place in breaks)
        yield Token(said, segment, claim_or_none)


def _stands_out(claim: Claim) -> bool:
    """Whether a claim is one token; "a day" may be a day's walk and stays words."""
    return not claim.implied and not claim.text.startswith(("a ", "an "))


def _every(text: str, claims: Sequence[Claim]) -> Iterator[str]:
    """Words and commas in order, after a leading yes or no; cannot and don't are two words."""
    ends = {claim.start: claim for claim in claims if _stands_out(claim)}
    place = without_yes(text)
    while place < len(text):
        if place in ends:
            yield _SLOTS.get(ends[place].kind, "#link")
            place = ends[place].end
            continue
        match = _WORD.match(text, place)
        if match is None:
            if text[place] in ",;:()" and text[place + 1 : place + 2] in {" ", ""}:
                yield ","
            place += 1
            continue
        word = match.group().lower()
        if word == "cannot" or word.endswith("n't"):
            yield {"cannot": "can", "can't": "can", "won't": "will"}.get(word, word[:-3])
            yield "not"
        else:
            yield word
        place = match.end()

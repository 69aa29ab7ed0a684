"""The texts a reply must stand on, read once: their sentences, words and claims.

Says whether a source holds a claim and which sentence a sentence follows. Knows nothing of
weights; see `support`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from .claims import WEEKDAYS, Claim, Kind, bare, find_claims, plain
from .clauses import Clause, clauses, sentences
from .lexical import stem
from .lexicon import STOP, meaning
from .types import Entry

__all__ = ["Evidence", "Sentence", "Token", "sources_of"]

_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|\d+|[一-鿿]")
_BREAK = re.compile(r"[,;:()—–]|\b(?:and|but|or|while|whereas|plus|then)\b", re.IGNORECASE)
_WINDOW, _ACROSS = 8, 0.4
_OTHER_BOUND = {"low": "high", "high": "low", "": ""}


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
        said = self.text[claim.start : claim.end]
        denied = any(one.denied and said in one.text for one in self.clauses)
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
    """Words and commas in order; cannot and don't are two words each."""
    ends = {claim.start: claim for claim in claims if _stands_out(claim)}
    place = 0
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


def sources_of(entries: Iterable[Entry]) -> list[str]:
    """The texts of entries to check a reply against: the answer, and the question as a question."""
    return [f"{entry.answer}\n{entry.question.rstrip('?. ')}?" for entry in entries]


@dataclass(frozen=True)
class Evidence:
    """Sources, read."""

    texts: tuple[str, ...]

    @classmethod
    def of(cls, sources: Sequence[str]) -> "Evidence":
        """Read the sources."""
        return cls(tuple(plain(text) for text in sources))

    @cached_property
    def sentences(self) -> list[Sentence]:
        """All sentences but questions, which state nothing."""
        told = [
            Sentence(text, place)
            for place, source in enumerate(self.texts)
            for text in sentences(source)
        ]
        return [one for one in told if not one.text.endswith(("?", "？"))] or told

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
    def _values(self) -> dict[str, set[Kind]]:
        """Kinds of claims in which a bare number is written."""
        found: dict[str, set[Kind]] = {}
        for claim in self.claims:
            for number in re.findall(r"\d+(?:[.,]\d+)*", claim.text):
                found.setdefault(number, set()).add(claim.kind)
        return found

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
    def stated(self) -> dict[str, list["Stated"]]:
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
        if claim.implied or (claim.keys & self.keys and not self._halved(claim)):
            return True
        if claim.kind is Kind.NAME:
            return self._holds_name(claim.text)
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
        if claim.kind not in {Kind.QUANTITY, Kind.COUNT}:
            return False
        same = [c for c in self.claims if c.keys & claim.keys and not c.implied]
        return bool(same) and not any(_fits(claim, other) for other in same)

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
        for one, other in zip(days, days[1:], strict=False):
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
        return bool(self._values.get(number, set()) - {Kind.QUANTITY} or hour & self.keys)


def _fits(claim: Claim, other: Claim) -> bool:
    """Whether a number says as much as the same number of a source does in its range."""
    if claim.span:
        return claim.span == other.span or (not other.ends and not claim.keys - other.keys)
    return not other.ends or claim.bound == {"first": "low", "last": "high"}[other.ends]


def _part_of(link: str, squeezed: str) -> bool:
    """Whether a link, or a link it is the beginning of, is written somewhere."""
    key = re.sub(r"^(?:https?://)?(?:www\.)?", "", link).rstrip("/")
    return bool(re.search(rf"(?<![\w.-]){re.escape(key)}(?![\w-])(?!\.\w)", squeezed))

"""How well a reply follows from its sources: a small entailment-like score, numpy only.

What `reading` measures of each sentence becomes its log-odds of being wrong; the worst one, and
whether the reply as a whole answers the question, become the reply's. The weights are in
support.json; `compress/support.py` fits them. Knows nothing of models.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from .claims import Claim, Kind, plain
from .clauses import courteous, sentences
from .evidence import Evidence
from .lexicon import meaning, rarity
from .reading import SENTENCE, Reading
from .sentence import Sentence, sentence_of

__all__ = ["CUTS", "REPLY", "SENTENCE", "Layer", "Support", "load_support", "stepped"]

REPLY = (
    "worst",
    "loops",
    "cut",
    "odd_letters",
    "long",
    "asks",
    "roles",
    "echo",
    "kind_missing",
    "asked_lost",
    "unasked",
    "off_first",
)
"""What is measured of a reply; `worst` is how likely (0..1) its worst sentence is wrong."""

_NOTHING = -9.0
_KEPT = 64
"""Sentences, beside what they were held against, that stay read."""
_ROLES = re.compile(r"(?:^|\s)(?:customer|agent|question|answer|user|[qa])\s*:", re.IGNORECASE)
_WANTED: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), frozenset(wanted.split()))
    for pattern, wanted in (
        (r"\bhow much\b|\bprices?\b|\bcosts?\b|\bfees?\b|\bdear\b|\bcheap", "money"),
        (r"\bhow (?:long|soon|quick\w*|fast|late|many (?:days|weeks|hours|months))\b", "time"),
        (r"\bwhen\b|\bwhat time\b|\buntil\b|\bwhat days?\b", "time"),
        (r"\bhow many\b|\bmaximum\b|\bhow (?:big|large|heavy|old|far)\b", "number"),
    )
)
_MONEY = frozenset({"GBP", "EUR", "USD", "CHF", "CNY", "cent"})
_LASTING = frozenset({"minute", "month", "working day", "night", "second"})
Vector = NDArray[np.float64]


CUTS = (0.01, 0.15, 0.3, 0.5, 0.7, 0.9)
"""A feature counts in proportion, and again as it passes each of these."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A logistic model over `stepped` features, bias last; log-odds over `limit` are wrong."""

    weights: tuple[float, ...]
    limit: float

    def odds(self, features: Vector) -> float:
        """Log-odds of being wrong."""
        return float(stepped(features) @ np.array(self.weights[:-1]) + self.weights[-1])


def stepped(features: Vector) -> Vector:
    """Features, and for each of `CUTS` which are over it; shape (..., n * (1 + len(CUTS)))."""
    steps = [np.asarray(features > cut, np.float64) for cut in CUTS]
    return np.concatenate([features, *steps], axis=-1)


@dataclass(frozen=True)
class Support:
    """The fitted score; `rarity` says how much a stem tells (0..1), unknown ones 1."""

    sentence: Layer
    reply: Layer
    rarity: Mapping[str, float]

    def sentence_features(self, one: Sentence, evidence: Evidence, question: Sentence) -> Vector:
        """`SENTENCE`, shape (len(SENTENCE),)."""
        return np.array(self._reading(one, evidence, question).features)

    @cached_property
    def _reading(self) -> Callable[[Sentence, Evidence, Sentence], Reading]:
        """How a sentence reads; those of late are known still, for a reply is judged as it grows
        and once more as a whole."""

        @lru_cache(_KEPT)
        def read(one: Sentence, evidence: Evidence, question: Sentence) -> Reading:
            return Reading(one, evidence, self.rarity, question)

        return read

    def reply_features(self, reply: str, evidence: Evidence, question: str = "") -> Vector:
        """`REPLY`, shape (len(REPLY),)."""
        return self.read(reply, evidence, question)[1]

    def odds(self, reply: str, evidence: Evidence, question: str = "") -> tuple[float, float]:
        """Log-odds over their limits that the worst sentence is wrong, and the whole reply."""
        worst, features = self.read(reply, evidence, question)
        return worst - self.sentence.limit, self.reply.odds(features) - self.reply.limit

    def doubts(self, reply: str, evidence: Evidence, question: str = "") -> bool:
        """Whether a whole reply is likelier wrong than may be sent."""
        return _only_asks(reply) or max(self.odds(reply, evidence, question)) > 0

    def doubts_sentence(self, sentence: str, evidence: Evidence, question: str = "") -> bool:
        """Whether a finished sentence is likelier wrong than may be shown."""
        return self.sentence_odds(sentence, evidence, question) > self.sentence.limit

    def read(self, reply: str, evidence: Evidence, question: str) -> tuple[float, Vector]:
        """The log-odds of the worst sentence, and `REPLY`."""
        asked, text = sentence_of(plain(question)), plain(reply)
        told = [sentence_of(piece) for piece in sentences(text) if not courteous(piece)]
        odds = [self.sentence.odds(self.sentence_features(s, evidence, asked)) for s in told]
        worst = max(odds, default=_NOTHING)
        answered = self._answered(told, evidence, asked)
        return worst, np.array([1 / (1 + np.exp(-worst)), *_shape(text, evidence), *answered])

    def sentence_odds(self, sentence: str, evidence: Evidence, question: str = "") -> float:
        """Log-odds that a finished sentence of a reply is wrong."""
        asked, one = sentence_of(plain(question)), sentence_of(plain(sentence))
        return self.sentence.odds(self.sentence_features(one, evidence, asked))

    def _answered(
        self, told: Sequence[Sentence], evidence: Evidence, asked: Sentence
    ) -> list[float]:
        """Whether what was asked for is there; all 0 without a question."""
        if not told or not evidence.sentences:
            return [0.0, 1.0, 0.0, 0.0, 0.0]
        echo = max(self._echo(one, evidence, asked) for one in told)
        if not asked.text:
            return [echo, 0.0, 0.0, 0.0, 0.0]
        words = frozenset(word for one in told for word in one.said)
        ranked = [self._relevance(one, asked) for one in evidence.sentences]
        best = evidence.sentences[int(np.argmax(ranked))]
        lost = 1 - self._held(frozenset(best.said), words)
        near = [self._reading(one, evidence, asked).near for one in told]
        first = sum(one is not None and one.source > 0 for one in near) / len(near)
        said = words | frozenset(word for one in near if one for word in one.said)
        return [
            echo,
            _kind_missing(told, evidence, asked.text),
            lost * max(ranked),
            1 - self._relevance_of(said, asked),
            first,
        ]

    def _echo(self, one: Sentence, evidence: Evidence, asked: Sentence) -> float:
        """How much of a sentence only says a question again (0..1), the customer's or another."""
        own = frozenset(one.said)
        stated = frozenset(word for other in evidence.sentences for word in other.said)
        asks = [asked, *evidence.questions]
        again = max(self._held(own, frozenset(other.said)) for other in asks)
        both = max(self._held(frozenset(other.said), own) for other in asks)
        return max(0.0, min(again, both) - self._held(own, stated) / 2)

    def _relevance(self, one: Sentence, asked: Sentence) -> float:
        return self._relevance_of(frozenset(one.said), asked)

    def _relevance_of(self, words: frozenset[str], asked: Sentence) -> float:
        """The share of the question's weight that words hold, or mean."""
        meant = frozenset(row for word in words for row in meaning(word))
        wanted = asked.words
        total = sum(self.rarity.get(word, 1.0) for word in wanted)
        held = sum(
            self.rarity.get(word, 1.0) for word in wanted if word in words or meaning(word) & meant
        )
        return held / total if total else 1.0

    def _held(self, wanted: frozenset[str], words: frozenset[str]) -> float:
        total = sum(self.rarity.get(word, 1.0) for word in wanted)
        held = sum(self.rarity.get(word, 1.0) for word in wanted & words)
        return held / total if total else 1.0


@lru_cache(maxsize=1)
def load_support() -> Support:
    """The score with the weights that ship with the package."""
    told = json.loads((files(__package__) / "support.json").read_text(encoding="utf-8"))
    sentence, reply = (
        Layer(tuple(told[name]["weights"]), told[name]["limit"]) for name in ("sentence", "reply")
    )
    return Support(sentence, reply, rarity())


def _only_asks(reply: str) -> bool:
    """Whether a reply answers with questions alone."""
    told = [text for text in sentences(plain(reply)) if not courteous(text)]
    return bool(told) and all(text.endswith(("?", "？")) for text in told)


def _shape(text: str, evidence: Evidence) -> list[float]:
    """What a broken model writes: loops, a torn end, letters the sources do not use, too much."""
    words = re.findall(r"\w+", text.lower())
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    loops = sum(count - 1 for count in triples.values()) / max(1, len(words))
    known = set(" ".join(evidence.texts)) | set("abcdefghijklmnopqrstuvwxyz0123456789 .,!?'\"-:;()")
    odd = sum(letter.lower() not in known and letter not in known for letter in text)
    room = sum(len(source) for source in evidence.texts)
    return [
        loops,
        float(not text.rstrip().endswith((".", "!", "?", "。", "！", "？"))),
        min(1.0, 20 * odd / max(1, len(text))),
        min(2.0, max(0.0, len(text) / max(1, room) - 1)),
        min(2, sum(s.endswith(("?", "？")) for s in sentences(text))) / 2,
        float(bool(_ROLES.search(text))),
    ]


def _kinds(claims: Sequence[Claim]) -> frozenset[str]:
    """What kinds of answer claims can be: money, time, a number."""
    found = set()
    for claim in claims:
        measures = {key.partition(":")[0] for key in claim.keys}
        if measures & _MONEY:
            found.add("money")
        elif claim.kind in {Kind.TIME, Kind.DATE, Kind.WEEKDAY} or measures & _LASTING:
            found.add("time")
        if claim.kind in {Kind.QUANTITY, Kind.COUNT}:
            found.add("number")
    return frozenset(found)


def _kind_missing(told: Sequence[Sentence], evidence: Evidence, question: str) -> float:
    """Whether the question asks for a kind of fact that the sources have and the reply has not."""
    own = _kinds([claim for one in told for claim in one.claims])
    theirs = _kinds([claim for one in evidence.sentences for claim in one.claims])
    free = any({"free", "not"} & set(one.text.lower().split()) for one in told)
    wanted = [kind for pattern, kind in _WANTED if pattern.search(question)]
    return float(any(kind & theirs and not kind & own for kind in wanted) and not free)

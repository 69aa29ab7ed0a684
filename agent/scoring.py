"""How likely each candidate entry answers a question: search first, then reading.

The first stage is logistic over the index's features of every candidate. The second reads the
likeliest few together with the question (a cross-encoder): what it says moves the order a
little, and how sure the router is a lot. Knows nothing of thresholds.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .index import FEATURES, Candidate, Index
from .reranker import Reranker

__all__ = [
    "RIDGE",
    "SECOND",
    "Reading",
    "Scored",
    "Scorer",
    "Weights",
    "fit_first",
    "fit_order",
    "fit_sure",
    "from_odds",
    "log_odds",
]

SHORTLIST, READ = 4, 2
"""How many candidates are scored, and how many of them are read: reading is what takes time."""

UNREAD, UNFOUND = -8.0, -6.0
SECOND = ("first", "cross", "cross_margin")
RIDGE, SURE_RIDGE = 2.0, 300.0
_NEAREST = 3
_HELD = 9.0
_ORDERS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)

Vector = NDArray[np.float64]
Group = tuple[Sequence[Candidate], int]
"""Measured candidates of a question, and the place of the entry that answers it (-1: none)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """`first` over `FEATURES` and `sure` over `SECOND`, bias last; `order` of the cross-encoder.

    Candidates are ordered by the first stage's log-odds plus `order` times the cross-encoder's.
    """

    first: tuple[float, ...] = (0.0,) * (len(FEATURES) + 1)
    order: float = 0.0
    sure: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with the probability that it answers."""

    candidate: Candidate
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A shortlist as both stages see it: features shaped (len(candidates), len(SECOND))."""

    candidates: tuple[Candidate, ...]
    features: Vector

    def best(self, order: float) -> int:
        """The place of the first candidate."""
        return int(np.argmax(self.features[:, 0] + order * self.features[:, 1]))


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores candidates of `index`; without a reranker by the first stage alone."""

    index: Index
    weights: Weights
    reranker: Reranker | None = None

    def scored(
        self, question: str, searches: Sequence[Sequence[Candidate]], before: str = ""
    ) -> list[Scored]:
        """The likeliest candidates of all searches, best first.

        `before` is the customer's turn before, where the question leans on it.
        """
        found = self._found(searches)
        if self.reranker is None or not found or not self.reranker.reads(question):
            return [Scored(candidate, _probability(odds)) for candidate, odds in found]
        reading = self._read(self.reranker, question, found, before)
        sure = np.array(self.weights.sure)
        scores = reading.features @ sure[:-1] + sure[-1]
        rank = reading.features[:, 0] + self.weights.order * reading.features[:, 1]
        return [
            Scored(reading.candidates[n], _probability(float(scores[n])))
            for n in np.argsort(-rank, kind="stable")
        ]

    def nearest(self, candidates: Sequence[Candidate]) -> tuple[int, float]:
        """The entry that the first stage puts first, with its log-odds; of at least one."""
        odds = self._first(candidates)
        place = int(np.argmax(odds))
        return candidates[place].entry, odds[place]

    def read(self, question: str, candidates: Sequence[Candidate]) -> Reading | None:
        """What the second stage sees; None where there is nothing it reads."""
        found = self._found([candidates])
        if self.reranker is None or not found or not self.reranker.reads(question):
            return None
        return self._read(self.reranker, question, found, "")

    def _found(self, searches: Sequence[Sequence[Candidate]]) -> list[tuple[Candidate, float]]:
        """The shortlist with log-odds: their mean over the searches, each entry once."""
        total: dict[int, float] = defaultdict(float)
        best: dict[int, tuple[float, Candidate]] = {}
        for candidates in searches:
            for candidate, odds in zip(candidates, self._first(candidates), strict=True):
                total[candidate.entry] += odds - UNFOUND
                if candidate.entry not in best or odds > best[candidate.entry][0]:
                    best[candidate.entry] = (odds, candidate)
        means = {entry: UNFOUND + value / len(searches) for entry, value in total.items()}
        most = SHORTLIST + len(searches) - 1
        order = sorted(means, key=lambda entry: -means[entry])[:most]
        return [(best[entry][1], means[entry]) for entry in order]

    def _first(self, candidates: Sequence[Candidate]) -> list[float]:
        if not candidates:
            return []
        weights = np.array(self.weights.first)
        odds = np.array([c.features for c in candidates]) @ weights[:-1] + weights[-1]
        return [float(value) for value in np.clip(odds, -_HELD, _HELD)]

    def _read(
        self,
        reranker: Reranker,
        question: str,
        found: Sequence[tuple[Candidate, float]],
        before: str,
    ) -> Reading:
        entries = [self.index.entries[candidate.entry] for candidate, _ in found]
        told = [
            (candidate.matched or entry.question, entry.answer)
            for (candidate, _), entry in zip(found, entries, strict=True)
        ]
        read = [n for n, entry in enumerate(entries[:READ]) if reranker.reads(entry.question)]
        cross = np.full(len(found), UNREAD)
        if read:
            cross[read] = reranker.score(question, [told[place] for place in read], before)
            cross[READ:] = cross[read].min()
        rival = [max([UNREAD, *np.delete(cross, n)]) for n in range(len(cross))]
        features = np.array([[odds for _, odds in found], cross, cross - rival], np.float64).T
        return Reading(tuple(candidate for candidate, _ in found), features)


def fit_first(groups: Sequence[Group], prior: Weights) -> Weights:
    """First-stage weights: no feature of likeness may speak against an entry.

    The three nearest candidates of every group count, and the right one.
    """
    rows: list[Vector] = []
    labels: list[float] = []
    for candidates, owner in groups:
        near = sorted(candidates, key=lambda c: -float(c.features[0]))[:_NEAREST]
        near += [c for c in candidates if c.entry == owner and c not in near]
        rows.extend(c.features for c in near)
        labels.extend(float(c.entry == owner) for c in near)
    fitted = _fit(np.array(rows), np.array(labels), np.array(prior.first))
    return Weights(fitted, prior.order, prior.sure)


def fit_order(read: Sequence[tuple[Reading, int]], weights: Weights) -> Weights:
    """The `order` with which most questions find their entry first; ties take the smaller."""
    found = [(reading, owner) for reading, owner in read if owner >= 0]
    right = [
        sum(reading.candidates[reading.best(order)].entry == owner for reading, owner in found)
        for order in _ORDERS
    ]
    return Weights(weights.first, _ORDERS[int(np.argmax(right))], weights.sure)


def fit_sure(
    read: Sequence[tuple[Reading, int]], weights: Weights, ridge: float = SURE_RIDGE
) -> Weights:
    """Weights of the probability that the first candidate is the right one.

    `ridge` holds them near `weights`: own wordings are easier than what customers will ask.
    """
    best = [(reading, reading.best(weights.order), owner) for reading, owner in read]
    rows = np.array([reading.features[place] for reading, place, _ in best])
    labels = np.array([float(r.candidates[place].entry == owner) for r, place, owner in best])
    return Weights(weights.first, weights.order, _fit(rows, labels, np.array(weights.sure), ridge))


def _fit(x: Vector, y: Vector, prior: Vector, ridge: float = RIDGE) -> tuple[float, ...]:
    """Logistic regression by Newton's method, ridge around the prior, weights not negative."""
    if not len(x) or not y.any():
        return tuple(float(w) for w in prior)
    x = np.hstack([x, np.ones((len(x), 1))])
    free = np.ones(x.shape[1], bool)
    while True:
        weights = _newton(x, y, prior, free, ridge)
        wrong = free & (weights < 0)
        wrong[-1] = False
        if not wrong.any():
            return tuple(float(w) for w in weights)
        free &= ~wrong


def _newton(x: Vector, y: Vector, prior: Vector, free: NDArray[np.bool_], ridge: float) -> Vector:
    """Weights of the free features, the others zero."""
    x, centre = x[:, free], prior[free]
    weights = centre.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (p - y) + ridge * (weights - centre)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    whole = np.zeros(len(prior))
    whole[free] = weights
    return whole


def _probability(odds: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(odds, -30, 30))))


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), held within plus and minus 9.2."""
    held = min(max(probability, 1e-4), 1 - 1e-4)
    return math.log(held / (1 - held))


def from_odds(odds: float) -> float:
    """The probability with these log-odds; those out of a float's reach are 0 or 1."""
    return 1 / (1 + math.exp(min(-odds, 700.0)))

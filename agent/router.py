"""Turns measurements into a decision: which entries answer, and whether to answer at all.

A logistic scorer over the index's features gives each candidate the probability that it answers
the question. Weights and thresholds are fitted when a bot is built, on its own wordings (each
asked while hidden from the index), the same wordings with their entry taken away (near misses)
and the out-of-scope questions that ship with the package. Knows nothing of models.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ArtifactError
from .index import FEATURES, Candidate, Index
from .prompt import MAX_ENTRIES
from .rewrite import parts, refers_back, with_history
from .smalltalk import smalltalk
from .types import HandoffReason, Match, Route, RouteKind, Turn

__all__ = [
    "Calibration",
    "Router",
    "calibrate",
    "fit_scorer",
    "out_of_scope_questions",
    "probability_of_best",
]

IN_SCOPE_KEPT = 0.96
CLARIFY_KEPT = 0.99
LEAN = 0.4
ACCOMPANY = 0.45
Vector = NDArray[np.float32]
_SHAPE = len(FEATURES) + 1
_MAX_OWN = 1500
_FEW = 8


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted weights (bias last) and thresholds; `own` and `foreign` say on how many questions.

    A best candidate at or over `answer` is answered from, over `clarify` offered as a choice;
    further candidates of at least `accompany` times its score are passed along. When the model
    then refuses, the candidates are still offered if the best is at or over `offer`.
    """

    encoder: str
    weights: tuple[float, ...]
    answer: float
    clarify: float
    accompany: float
    offer: float
    own: int
    foreign: int
    kept: float
    refused: float

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing or not a calibration.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**data, "weights": tuple(data["weights"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} is not a router calibration: {error}") from None


@dataclass(frozen=True, slots=True)
class Router:
    """Decides the route of a question."""

    index: Index
    calibration: Calibration
    writes: frozenset[str] = frozenset({"en"})

    def route(
        self, question: str, history: Sequence[Turn] = (), *, today: date | None = None
    ) -> Route:
        """The route of a question: its candidates, scores, threshold and what may be answered.

        A question of several parts passes the best entry of each; one that leans on the
        conversation is searched for together with the turn before.
        """
        today = today or date.today()
        talk = smalltalk(question)
        if talk is not None:
            if talk.reply is None:
                return self._route(RouteKind.HANDOFF, (), reason=HandoffReason.REQUESTED)
            return self._route(RouteKind.SMALLTALK, (), reply=talk.reply)
        asked = self._wordings(question, history)
        vectors = self._vectors(asked, history)
        found = [
            self._scored(text, vector, today)
            for (text, _), vector in zip(asked, vectors, strict=True)
        ]
        whole = self._whole(question, asked, found)
        split = [matches for (_, role), matches in zip(asked, found, strict=True) if role == "part"]
        if split and self._both_hold(split):
            return self._answer(
                _interleaved(split), [text for text, role in asked if role == "part"]
            )
        return self._decide(whole)

    def nearest(self, question: str, *, today: date | None = None) -> list[Match]:
        """The entries a model would be shown for a question, whatever their score; best first."""
        text = self.index.speller.mended(question)
        vector = self.index.encoder.embed([text])[0]
        matches = self._scored(text, vector, today or date.today())
        return [
            match
            for place, match in enumerate(matches[:MAX_ENTRIES])
            if not place or match.score >= self.calibration.accompany * matches[0].score
        ]

    def _vectors(self, asked: list[tuple[str, str]], history: Sequence[Turn]) -> list[Vector]:
        """One vector a wording; a joined one is the question's, leaning to the turn before."""
        before = [turn.content for turn in history if turn.role == "user"][-1:]
        made = self.index.encoder.embed([*(text for text, _ in asked), *before])
        vectors = list(made[: len(asked)])
        for place, (_, role) in enumerate(asked):
            if role == "joined":
                mixed = made[0] + LEAN * made[-1]
                vectors[place] = mixed / np.linalg.norm(mixed)
        return vectors

    def _wordings(self, question: str, history: Sequence[Turn]) -> list[tuple[str, str]]:
        question = self.index.speller.mended(question)
        asked = [(question, "whole")]
        joined = with_history(question, history)
        if joined is not None:
            asked.append((joined, "joined"))
        asked.extend((part, "part") for part in parts(question))
        return asked

    def _whole(
        self, question: str, asked: list[tuple[str, str]], found: list[list[Match]]
    ) -> list[Match]:
        """The matches of the message; of message and turn before where one leans on the other."""
        roles = [role for _, role in asked]
        if "joined" not in roles or not refers_back(question):
            return found[0]
        return found[roles.index("joined")] or found[0]

    def _both_hold(self, split: list[list[Match]]) -> bool:
        tops = [matches[0] for matches in split if matches]
        return (
            len(tops) == len(split)
            and len({match.entry_id for match in tops}) > 1
            and all(match.score >= self.calibration.answer for match in tops)
        )

    def _decide(self, matches: list[Match]) -> Route:
        best = matches[0].score if matches else 0.0
        if best >= self.calibration.answer:
            return self._answer(matches)
        if best >= self.calibration.clarify:
            return self._route(RouteKind.CLARIFY, matches)
        return self._route(RouteKind.HANDOFF, matches, reason=HandoffReason.NO_MATCH)

    def _answer(self, matches: list[Match], questions: Sequence[str] = ()) -> Route:
        minimum = max(1, len(questions))
        by_id = {entry.id: entry for entry in self.index.entries}
        best = by_id[matches[0].entry_id]
        passed = [
            m.entry_id
            for place, m in enumerate(matches[:MAX_ENTRIES])
            if place < minimum or m.score >= self.calibration.accompany * matches[0].score
        ]
        kind = (
            RouteKind.VERBATIM
            if best.verbatim or best.language not in self.writes
            else RouteKind.ANSWER
        )
        if kind is RouteKind.VERBATIM:
            passed = passed[:minimum]
        return self._route(kind, matches, passed=passed, questions=questions)

    def _route(
        self,
        kind: RouteKind,
        matches: Sequence[Match],
        *,
        passed: Sequence[str] = (),
        reason: HandoffReason | None = None,
        reply: str = "",
        questions: Sequence[str] = (),
    ) -> Route:
        return Route(
            kind,
            matches[0].score if matches else 1.0 if reply else 0.0,
            self.calibration.answer,
            tuple(matches),
            tuple(passed),
            reason,
            reply,
            tuple(questions),
        )

    def _scored(self, text: str, vector: NDArray[np.float32], today: date) -> list[Match]:
        candidates = self.index.candidates(text, vector, today=today)
        scores = _probability(_matrix(candidates), np.array(self.calibration.weights))
        order = np.argsort(-scores, kind="stable")
        return [
            Match(
                self.index.entries[candidates[n].entry].id,
                float(scores[n]),
                float(candidates[n].features[0]),
                float(candidates[n].features[3]),
                candidates[n].matched,
            )
            for n in order
        ]


def calibrate(index: Index, seed: int = 0, today: date | None = None) -> Calibration:
    """Fit the scorer and its thresholds on a bot's own entries and out-of-scope questions."""
    today = today or date.today()
    rng = random.Random(seed)
    own = _own_questions(index, rng)
    foreign = _foreign_questions(index)
    groups = [
        (index.candidates(text, vector, today=today, hidden=place), owner)
        for text, vector, place, owner in own
    ]
    away = [
        (index.candidates(text, vector, today=today, hidden=place, absent=owner), -1)
        for text, vector, place, owner in rng.sample(own, k=len(own) // 3)
    ]
    strange = [
        (index.candidates(text, vector, today=today), -1)
        for text, vector in zip(foreign, index.encoder.embed(foreign), strict=True)
    ]
    prior = _prior(index.encoder.id)
    weights = fit_scorer([*groups, *away, *strange], prior.weights)
    return _thresholds(index, weights, groups, away, strange, prior)


def _own_questions(
    index: Index, rng: random.Random
) -> list[tuple[str, NDArray[np.float32], int, int]]:
    """Wordings of entries that have another one left when it is hidden: text, vector, place."""
    counts = np.bincount(index.owner[~index.is_answer], minlength=len(index.entries))
    places = [
        place
        for place in range(len(index.texts))
        if not index.is_answer[place] and counts[index.owner[place]] > 1
    ]
    if len(places) > _MAX_OWN:
        places = rng.sample(places, _MAX_OWN)
    return [
        (index.texts[place], index.vectors[place], place, int(index.owner[place]))
        for place in places
    ]


@lru_cache(maxsize=1)
def out_of_scope_questions() -> tuple[tuple[str, str], ...]:
    """The shipped out-of-scope questions with their language."""
    text = (files(__package__) / "out_of_scope.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((row["question"], row["language"]) for row in rows)


def _foreign_questions(index: Index) -> list[str]:
    languages = {entry.language for entry in index.entries}
    return [
        question
        for question, language in out_of_scope_questions()
        if language in languages or language == "en"
    ]


def _matrix(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    rows = np.array([c.features for c in candidates], np.float64).reshape(-1, len(FEATURES))
    return np.hstack([rows, np.ones((len(rows), 1))])


def _probability(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30))))


@dataclass(frozen=True, slots=True)
class _Prior:
    """Weights and thresholds fitted once on the sample bot: where a small FAQ starts from."""

    weights: NDArray[np.float64]
    answer: float


def _prior(encoder: str) -> _Prior:
    priors = json.loads((files(__package__) / "prior.json").read_text(encoding="utf-8"))
    told = priors.get(encoder)
    if told is None:
        return _Prior(np.zeros(_SHAPE), 0.5)
    return _Prior(np.array(told["weights"], np.float64), told["answer"])


def fit_scorer(
    groups: Sequence[tuple[list[Candidate], int]], prior: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weights (bias last): logistic regression by Newton's method, ridge around the prior.

    A group is the measured candidates of one question with the entry that answers it (-1: none);
    the three nearest candidates count.
    """
    prior = np.zeros(_SHAPE) if prior is None else prior
    rows: list[NDArray[np.float64]] = []
    labels: list[float] = []
    for candidates, owner in groups:
        near = sorted(candidates, key=lambda c: -float(c.features[0]))[:3]
        near += [c for c in candidates if c.entry == owner and c not in near]
        if near:
            rows.append(_matrix(near))
            labels.extend(float(c.entry == owner) for c in near)
    if not rows or not any(labels):
        return prior
    x, y = np.vstack(rows), np.array(labels)
    free = np.ones(_SHAPE, bool)
    while True:
        weights = _newton(x, y, prior, free)
        wrong = free & (weights < 0)
        wrong[-1] = False
        if not wrong.any():
            return weights
        free &= ~wrong


def _newton(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    prior: NDArray[np.float64],
    free: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Weights of the free features, the others zero: more likeness never speaks against."""
    x, centre = x[:, free], prior[free]
    weights, ridge = centre.copy(), 2.0
    for _ in range(30):
        p = _probability(x, weights)
        gradient = x.T @ (p - y) + ridge * (weights - centre)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    whole = np.zeros(_SHAPE)
    whole[free] = weights
    return whole


def _thresholds(
    index: Index,
    weights: NDArray[np.float64],
    own: Sequence[tuple[list[Candidate], int]],
    away: Sequence[tuple[list[Candidate], int]],
    strange: Sequence[tuple[list[Candidate], int]],
    prior: _Prior,
) -> Calibration:
    """Thresholds from the scores themselves.

    `answer` is the score that best parts right first entries from questions without an answer,
    but keeps at least `IN_SCOPE_KEPT` of the questions whose best entry was right. A bot of few
    wordings gives the model, which judges too, all that is nearer than most strange questions.
    """
    right = np.array(
        [
            probability_of_best(c, weights)[0]
            for c, owner in own
            if probability_of_best(c, weights)[1] == owner
        ]
    )
    wrong = np.array([probability_of_best(c, weights)[0] for c, _ in strange])
    missed = np.array([probability_of_best(c, weights)[0] for c, _ in away])
    behind = np.array(
        [
            _score_of(candidates, owner, weights) / max(score, 1e-9)
            for candidates, owner in own
            for score, entry in [probability_of_best(candidates, weights)]
            if entry != owner
        ]
    )
    if len(right) < _FEW:
        strangest = float(np.quantile(wrong, 0.75)) if len(wrong) else 0.0
        answer = min(prior.answer, max(0.05, strangest))
        right = np.array([answer, *right])
    else:
        answer = _parting(right, np.concatenate([wrong, missed]))
    clarify = min(
        answer,
        max(
            float(np.quantile(right, 1 - CLARIFY_KEPT)),
            float(np.quantile(wrong, 0.97)) if len(wrong) else 0.0,
        ),
    )
    accompany = float(np.quantile(behind, 0.15)) if len(behind) > _FEW else ACCOMPANY
    return Calibration(
        encoder=index.encoder.id,
        weights=tuple(float(w) for w in weights),
        answer=answer,
        clarify=clarify,
        accompany=min(0.6, max(0.3, accompany)),
        offer=max(answer, float(np.quantile(wrong, 0.9)) if len(wrong) else answer),
        own=len(own),
        foreign=len(strange),
        kept=float((right >= answer).mean()) if len(right) else 0.0,
        refused=float((wrong < answer).mean()) if len(wrong) else 0.0,
    )


def _parting(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> float:
    """The threshold with the best sum of kept and refused that keeps `IN_SCOPE_KEPT`."""
    highest = float(np.quantile(right, 1 - IN_SCOPE_KEPT))
    tried = [t for t in np.unique(np.concatenate([right, wrong])) if t <= highest]
    if not tried:
        return highest
    value = [float((right >= t).mean() + (wrong < t).mean()) for t in tried]
    return float(tried[int(np.argmax(value))])


def probability_of_best(
    candidates: list[Candidate], weights: NDArray[np.float64]
) -> tuple[float, int]:
    """The highest probability among candidates, and whose it is (0 and -1 without any)."""
    if not candidates:
        return 0.0, -1
    scores = _probability(_matrix(candidates), weights)
    place = int(np.argmax(scores))
    return float(scores[place]), candidates[place].entry


def _score_of(candidates: list[Candidate], owner: int, weights: NDArray[np.float64]) -> float:
    for candidate, score in zip(
        candidates, _probability(_matrix(candidates), weights), strict=True
    ):
        if candidate.entry == owner:
            return float(score)
    return 0.0


def _interleaved(split: list[list[Match]]) -> list[Match]:
    """The best of each part, then the seconds, each entry once."""
    seen: dict[str, Match] = {}
    for rank in range(max(len(matches) for matches in split)):
        for matches in split:
            if rank < len(matches):
                seen.setdefault(matches[rank].entry_id, matches[rank])
    return list(seen.values())

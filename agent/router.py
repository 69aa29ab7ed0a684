"""Turns scores into a decision: which entries answer, and whether to answer at all.

Knows nothing of models; weights and thresholds come from `calibration`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, Fit
from .index import Candidate, Index
from .offers import answer_to_offer
from .prompt import MAX_ENTRIES
from .reranker import Reranker
from .rewrite import Rewritten, parts, rewritten
from .scoring import Scorer, from_odds, log_odds
from .smalltalk import SmallTalk, covered, smalltalk
from .strangeness import doubt
from .threads import side_by_side
from .types import HandoffReason, Match, Route, RouteKind, Turn

__all__ = ["Router"]

LEAN = 0.4
NEAR = 0.5
APART = 0.8
"""Of the whole message's score: on `dev` it keeps every message that asks two things apart, and
half of those of BANKING77's training part whole that were split before."""
_TINY = 1e-9

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Router:
    """Decides the route of a question; `reranker` is the one the calibration was made with. At most
    `shown` entries pass for one question."""

    index: Index
    calibration: Calibration
    writes: frozenset[str] = frozenset({"en"})
    reranker: Reranker | None = None
    shown: int = MAX_ENTRIES

    def route(
        self, question: str, history: Sequence[Turn] = (), *, today: date | None = None
    ) -> Route:
        """The route of a question: its candidates, scores, threshold and what may be answered.

        A question of several parts passes the best entry of each; one that leans on the
        conversation is searched for together with the turn before.
        """
        today = today or date.today()
        limits = self.calibration.of(question)
        talk = answer_to_offer(question, history) or self._talk(question)
        if talk is not None:
            if talk.reply is None:
                return _route(RouteKind.HANDOFF, limits, (), reason=HandoffReason.REQUESTED)
            return _route(RouteKind.SMALLTALK, limits, (), reply=talk.reply)
        asked = rewritten(self.index.speller.mended(question), history)
        pieces = [] if asked.leans else parts(asked.question)
        vectors = self.index.encoder.embed([asked.question, *pieces])
        whole = partial(self._whole, asked, vectors[0], today)
        if not pieces:
            return self._decide(whole(), limits)
        split = partial(self._split, pieces, vectors[1:], limits, today)
        held, matches = side_by_side(split, whole)
        if len(held) > 1 and _apart(held, matches):
            return self._answer(_interleaved(list(held.values())), limits, list(held))
        return self._decide(matches, limits)

    def _split(
        self, pieces: Sequence[str], vectors: Vector, limits: Fit, today: date
    ) -> dict[str, list[Match]]:
        """The parts of a message with an entry of their own to answer them, none of them a
        skill's, with their matches.

        Of two parts both must have one; of three, one may only tell how it came to the others.
        Nothing is read where search alone finds fewer than two such entries, and no part behind
        those after which there cannot be two.
        """
        found = [
            self.index.candidates(text, vector, today=today)
            for text, vector in zip(pieces, vectors, strict=True)
        ]
        scorer = Scorer(self.index, limits.weights)
        nearest = [scorer.nearest(candidates) for candidates in found if candidates]
        least = log_odds(limits.answer) / max(limits.weights.sure[0], 0.1)
        if len({entry for entry, odds in nearest if odds >= least}) < 2:
            return {}
        held: dict[str, list[Match]] = {}
        for place, (text, candidates) in enumerate(zip(pieces, found, strict=True)):
            if len(held) + len(pieces) - place < 2:
                return {}
            matches = self._matches(text, [candidates])
            taken = {best[0].entry_id for best in held.values()}
            if matches and matches[0].score >= limits.answer and not matches[0].skill:
                held |= {} if matches[0].entry_id in taken else {text: matches}
        return held

    def _talk(self, question: str) -> SmallTalk | None:
        """The small talk a message is, unless the FAQ has an entry for it."""
        talk = smalltalk(question)
        own = talk is not None and talk.reply is not None and covered(talk, self.index.texts)
        return None if own else talk

    def nearest(self, question: str, *, today: date | None = None) -> list[Match]:
        """The entries a model would be shown for a question, whatever their score; best first."""
        asked = self.index.speller.mended(question)
        vector = self.index.encoder.embed([asked])[0]
        matches = self._whole(Rewritten(asked), vector, today or date.today())
        limits = self.calibration.of(question)
        matches = [match for match in matches if not match.skill]
        return [
            match
            for place, match in enumerate(matches[: self.shown])
            if not place or match.score >= limits.accompany * matches[0].score
        ]

    def _whole(self, asked: Rewritten, vector: Vector, today: date) -> list[Match]:
        """The matches of a message, read together with the turn before where it leans on that.

        Then what counts is the mean over three searches: for the message alone, for its vector
        leaning to the turn before, and for both as one text.
        """
        question, before = asked.question, asked.before
        alone = [self.index.candidates(question, vector, today=today)]
        if not asked.leans:
            return self._matches(question, alone)
        joined = f"{before} {question}"
        turn, both = self.index.encoder.embed([before, joined])
        leaning = vector + LEAN * turn
        leaning /= max(float(np.linalg.norm(leaning)), _TINY)  # words alone have no vectors
        searches = [
            self.index.candidates(joined, leaning, today=today),
            self.index.candidates(joined, both, today=today),
            *alone,
        ]
        return self._matches(question, searches, before)

    def _matches(
        self, question: str, searches: Sequence[list[Candidate]], before: str = ""
    ) -> list[Match]:
        """The candidates of all searches, each entry once, scored."""
        scorer = Scorer(self.index, self.calibration.of(question).weights, self.reranker)
        scored = scorer.scored(question, searches, before)
        lost = doubt(question, self.index.texts, self.index.speller)
        return [
            Match(
                self.index.entries[s.candidate.entry].id,
                from_odds(log_odds(s.score) - lost) if lost else s.score,
                float(s.candidate.features[0]),
                float(s.candidate.features[3]),
                s.candidate.matched,
            )
            for s in scored
        ]

    def _decide(self, matches: list[Match], limits: Fit) -> Route:
        """By the best score; no model judges after the router whether a skill was meant, so that
        one is called only where few strange questions reach, and offered below."""
        best = matches[0].score if matches else 0.0
        if matches and matches[0].skill:
            limits = replace(limits, answer=limits.offer)
        if best >= limits.answer:
            return self._answer(matches, limits)
        if best >= limits.clarify:
            return _route(RouteKind.CLARIFY, limits, matches)
        near = bool(matches) and best >= NEAR * limits.clarify
        reason = HandoffReason.LOW_CONFIDENCE if near else HandoffReason.OUT_OF_SCOPE
        return _route(RouteKind.HANDOFF, limits, matches, reason=reason)

    def _answer(self, matches: list[Match], limits: Fit, questions: Sequence[str] = ()) -> Route:
        if matches[0].skill:
            return _route(RouteKind.SKILL, limits, matches)
        minimum = max(1, len(questions))
        matched = matches[: max(minimum, self.shown)]
        entries = [self.index.entries[self.index.place[m.entry_id]] for m in matched]
        least = limits.accompany * matches[0].score
        passed = [
            entry.id
            for place, (m, entry) in enumerate(zip(matches, entries, strict=False))
            if not m.skill and (place < minimum or (m.score >= least and not entry.verbatim))
        ]
        verbatim = any(e.verbatim or e.language not in self.writes for e in entries[:minimum])
        return _route(
            RouteKind.VERBATIM if verbatim else RouteKind.ANSWER,
            limits,
            matches,
            passed=passed[:minimum] if verbatim else passed,
            questions=questions,
        )


def _route(
    kind: RouteKind,
    limits: Fit,
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
        limits.answer,
        tuple(matches),
        tuple(passed),
        reason,
        reply,
        tuple(questions),
    )


def _apart(held: dict[str, list[Match]], whole: list[Match]) -> bool:
    """Whether parts answer a message better than one entry does: a message in two sentences that
    asks one thing is nearer to its entry as a whole."""
    mean = sum(matches[0].score for matches in held.values()) / len(held)
    return mean >= APART * whole[0].score


def _interleaved(split: list[list[Match]]) -> list[Match]:
    """The best of each part, then the seconds, each entry once."""
    seen: dict[str, Match] = {}
    for rank in range(max(len(matches) for matches in split)):
        for matches in split:
            if rank < len(matches):
                seen.setdefault(matches[rank].entry_id, matches[rank])
    return list(seen.values())

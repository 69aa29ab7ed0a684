"""Fits the router to a bot when it is built: weights, and the thresholds of its decision.

Fitted on the bot's own wordings (each asked while hidden from the index), the same wordings with
their entry taken away (near misses) and the out-of-scope questions that ship with the package.
Knows nothing of models or of conversations.
"""

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder import is_latin
from .errors import ArtifactError
from .head import HeadScores, out_of_fold
from .index import Candidate, Index
from .out_of_scope import OutOfScope
from .progress import track
from .reranker import Reranker
from .risk import Curve
from .scoring import Scorer, Weights, fit_first, fit_order, fit_sure
from .spelling import mistyped

__all__ = ["Calibration", "Fit", "Prior", "calibrate", "prior_of"]

IN_SCOPE_KEPT = 0.96
CLARIFY_KEPT = 0.99
ALONE_KEPT = 0.8
ACCOMPANY = 0.45
_MAX_OWN, _MAX_READ, _MAX_AGAIN = 1500, 360, 180
_FEW, _MANY = 8, 100
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights of the scores and where the router decides, for questions in one script.

    A best candidate at or over `answer` is answered from, over `clarify` offered as a choice;
    further candidates of at least `accompany` times its score are passed along. When the model
    then refuses, the candidates are still offered if the best is at or over `offer`. `kept` is
    the share of `own` questions found right that are answered, `refused` that of `foreign` ones.
    `curve` tells the risk at every other threshold.
    """

    weights: Weights
    answer: float
    clarify: float
    accompany: float
    offer: float
    own: int = 0
    foreign: int = 0
    kept: float = 0.0
    refused: float = 0.0
    curve: Curve = field(default_factory=Curve)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted to questions in Latin script and in any other.

    Scores of the two do not compare: the English encoder and the reranker read only Latin.
    """

    encoder: str
    reranker: str
    latin: Fit
    other: Fit

    def of(self, question: str) -> Fit:
        """What holds for a question."""
        return self.latin if is_latin(question) else self.other

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
            return cls(
                str(data["encoder"]),
                str(data["reranker"]),
                *(
                    Fit(
                        **{
                            **data[script],
                            "weights": _weights(data[script]["weights"]),
                            "curve": Curve(
                                **{k: tuple(v) for k, v in data[script]["curve"].items()}
                            ),
                        }
                    )
                    for script in ("latin", "other")
                ),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is not a router calibration of this version ({error}); build the bot anew"
            ) from None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question with its measured candidates and the place of its entry (-1: none answers)."""

    text: str
    candidates: list[Candidate]
    owner: int


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of an encoder and a reranker before a bot is seen: a small FAQ's start."""

    weights: Weights
    answer: float


def prior_of(encoder: str, reranker: str = "") -> Prior:
    """The shipped prior (`compress/prior.py` fits it), or a vague one for a pair without."""
    known = json.loads((files(__package__) / "prior.json").read_text(encoding="utf-8"))
    for name in (f"{encoder}|{reranker}", encoder):
        if name in known:
            told = known[name]
            return Prior(_weights(told["weights"]), told["answer"])
    return Prior(Weights(), 0.5)


def _weights(data: Mapping[str, Any]) -> Weights:
    """Weights from JSON."""
    first, sure = (tuple(float(value) for value in data[name]) for name in ("first", "sure"))
    return Weights(first, float(data["order"]), sure)


def calibrate(
    index: Index,
    reranker: Reranker | None = None,
    *,
    writes: Collection[str] = ("en",),
    strange: OutOfScope | None = None,
    risk: float | None = None,
    seed: int = 0,
    today: date | None = None,
) -> Calibration:
    """Fit weights and thresholds on a bot's own entries and out-of-scope questions.

    `writes` are the languages in which a model writes, and so judges after the router. `strange`
    are the questions that no entry answers; by default those that ship with the package. With a
    `risk` the bot answers as much as it can while at most that share of its answers is wrong.
    """
    today = today or date.today()
    rng = random.Random(seed)
    strange = strange or OutOfScope.embedded(index.encoder, {e.language for e in index.entries})
    groups = _questions(index, strange, rng, today)
    fits: dict[bool, Fit] = {}
    for latin in sorted({is_latin(text) for text in index.texts}):
        own, away, foreign = ([a for a in group if is_latin(a.text) == latin] for group in groups)
        again = _again(index, own, rng, today)
        encoder = index.encoder.id if latin else index.encoder.id.rpartition("+")[2]
        second = reranker if latin else None
        prior = prior_of(encoder, second.id if second else "")
        judged = any(is_latin(e.question) == latin and e.language in writes for e in index.entries)
        scorer = Scorer(index, prior.weights, second)
        fit = _fit(scorer, own, away, foreign, again, prior=prior, judged=judged, rng=rng)
        fits[latin] = fit if risk is None else _at_risk(fit, risk)
    return Calibration(
        index.encoder.id,
        reranker.id if reranker else "",
        fits.get(True) or fits[False],
        fits.get(False) or fits[True],
    )


def _fit(
    scorer: Scorer,
    own: Sequence[_Asked],
    away: Sequence[_Asked],
    foreign: Sequence[_Asked],
    again: Sequence[_Asked],
    *,
    prior: Prior,
    judged: bool,
    rng: random.Random,
) -> Fit:
    """Weights and thresholds from questions in one script; `again` counts for the risk alone."""
    weights = fit_first([(a.candidates, a.owner) for a in (*own, *away, *foreign)], prior.weights)
    if scorer.reranker is not None:
        own = rng.sample(own, k=min(len(own), _MAX_READ))
        away = away[: _MAX_READ // 3]
        reader = replace(scorer, weights=weights)
        found = [(reader.read(a.text, a.candidates), a.owner) for a in (*own, *away, *foreign)]
        read = [(reading, owner) for reading, owner in found if reading is not None]
        if len(own) >= _MANY:
            weights = fit_order(read, weights)
        weights = fit_sure(read, weights)
    scorer = replace(scorer, weights=weights)
    found_of = [[_Found.of(scorer, a) for a in group] for group in (own, away, foreign, again)]
    return _thresholds(weights, *found_of, prior=prior, judged=judged)


def _at_risk(fit: Fit, risk: float) -> Fit:
    """The fit with the threshold that keeps a risk; what falls below is offered as a choice."""
    threshold = fit.curve.threshold(risk)
    answer = 1.0 if threshold is None else threshold
    return replace(
        fit, answer=answer, clarify=min(fit.answer, answer), offer=max(fit.offer, answer)
    )


def _questions(
    index: Index, strange: OutOfScope, rng: random.Random, today: date
) -> tuple[list[_Asked], list[_Asked], list[_Asked]]:
    """Own wordings of entries that have another one left when it is hidden, a third of them again
    with their entry taken away, and strange questions; each scored by a class head that did not
    see it."""
    places = _places(index, rng)
    heads = _heads(index, strange, places)

    def asked(place: int, *, absent: bool) -> _Asked:
        text, owner = index.texts[place], int(owners[place])
        candidates = index.candidates(
            text,
            np.asarray(index.vectors[place], np.float32),
            today=today,
            hidden=place,
            absent=owner if absent else None,
            head=heads.get(place),
        )
        return _Asked(text, candidates, -1 if absent else owner)

    owners = index.owner
    own = [asked(place, absent=False) for place in track(places, "calibrating")]
    away = [asked(place, absent=True) for place in rng.sample(places, k=len(places) // 3)]
    unseen = None if index.classifier is None else index.classifier.held_out
    foreign = [
        _Asked(text, index.candidates(text, vector, today=today, head=heads.get(-1 - n)), -1)
        for n, (text, vector) in enumerate(zip(strange.texts, strange.vectors, strict=True))
        if unseen is None or text in unseen
    ]
    return own, away, foreign


def _again(index: Index, own: Sequence[_Asked], rng: random.Random, today: date) -> list[_Asked]:
    """Some of the own questions as customers type them who use an entry's words: nothing hidden,
    a letter out of place."""
    chosen = rng.sample(own, k=min(len(own), _MAX_AGAIN))
    texts = [index.speller.mended(mistyped(asked.text, rng)) for asked in chosen]
    vectors = index.encoder.embed(texts)
    return [
        _Asked(text, index.candidates(text, vector, today=today), asked.owner)
        for text, vector, asked in zip(texts, vectors, chosen, strict=True)
    ]


def _places(index: Index, rng: random.Random) -> list[int]:
    """Wordings of entries with at least two, not more than `_MAX_OWN`; with a classifier, those
    that it was not trained on."""
    asked, counts = ~index.is_answer, np.diff(index.start) - 1
    places = [int(n) for n in np.flatnonzero(asked & (counts[index.owner] > 1))]
    if index.classifier is not None:
        places = [n for n in places if index.texts[n] in index.classifier.held_out]
    return rng.sample(places, _MAX_OWN) if len(places) > _MAX_OWN else places


def _heads(index: Index, strange: OutOfScope, places: Sequence[int]) -> dict[int, HeadScores]:
    """Scores of class heads fitted without the question, by place; none without a head."""
    if index.head is None:
        return {}
    texts = np.flatnonzero(~index.is_answer)
    row = {int(place): n for n, place in enumerate(texts)}
    told = out_of_fold(*index.wordings(), strange.vectors, [row[place] for place in places])
    return {int(texts[n]) if n >= 0 else n: scores for n, scores in told.items()}


@dataclass(frozen=True, slots=True)
class _Found:
    """The best score of a question, whether it is the right entry's, and the right entry's share
    of it."""

    best: float
    right: bool
    share: float

    @classmethod
    def of(cls, scorer: Scorer, asked: _Asked) -> "_Found":
        scored = scorer.scored(asked.text, [asked.candidates])
        if not scored:
            return cls(0.0, right=False, share=0.0)
        own = [s.score for s in scored if s.candidate.entry == asked.owner]
        best = scored[0].score
        share = min(1.0, max(own, default=0.0) / best)
        return cls(best, scored[0].candidate.entry == asked.owner, share)


def _thresholds(
    weights: Weights,
    own: Sequence[_Found],
    away: Sequence[_Found],
    foreign: Sequence[_Found],
    again: Sequence[_Found],
    *,
    prior: Prior,
    judged: bool,
) -> Fit:
    """Thresholds from the scores themselves.

    `answer` is the score that best parts right first entries from questions without an answer,
    but keeps at least `IN_SCOPE_KEPT` of the questions whose best entry was right. A bot of few
    wordings gives the model, which judges too, all that is nearer than most strange questions.
    Where no model judges, what one strange question in ten reaches is offered as a choice, not
    answered, as long as `ALONE_KEPT` of the own questions are.
    """
    right = np.array([f.best for f in own if f.right])
    wrong = np.array([f.best for f in foreign])
    missed = np.array([f.best for f in away])
    behind = np.array([f.share for f in own if not f.right])
    if len(right) < _FEW:
        answer = min(prior.answer, max(0.05, _quantile(wrong, 0.75, 0.0)))
        right = np.array([answer, *right])
    else:
        answer = _parting(right, np.concatenate([wrong, missed]))
    clarify = max(_quantile(right, 1 - CLARIFY_KEPT, answer), _quantile(wrong, 0.97, 0.0))
    clarify = min(answer, clarify)
    if not judged:
        strict = min(_quantile(wrong, 0.9, answer), _quantile(right, 1 - ALONE_KEPT, answer))
        clarify, answer = answer, max(answer, strict)
    accompany = _quantile(behind, 0.15, ACCOMPANY) if len(behind) > _FEW else ACCOMPANY
    return Fit(
        weights=weights,
        answer=answer,
        clarify=clarify,
        accompany=min(0.6, max(0.3, accompany)),
        offer=max(answer, _quantile(wrong, 0.9, answer)),
        own=len(own),
        foreign=len(foreign),
        kept=float((right >= answer).mean()),
        refused=float((wrong < answer).mean()) if len(wrong) else 0.0,
        curve=Curve.of(
            *([(f.best, f.right) for f in group] for group in (own, away, foreign, again))
        ),
    )


def _quantile(values: Vector, share: float, without: float) -> float:
    return float(np.quantile(values, share)) if len(values) else without


def _parting(right: Vector, wrong: Vector) -> float:
    """The threshold with the best sum of kept and refused that keeps `IN_SCOPE_KEPT`."""
    highest = float(np.quantile(right, 1 - IN_SCOPE_KEPT))
    tried = [t for t in np.unique(np.concatenate([right, wrong])) if t <= highest]
    if not tried or not len(wrong):
        return highest
    value = [float((right >= t).mean() + (wrong < t).mean()) for t in tried]
    return float(tried[int(np.argmax(value))])

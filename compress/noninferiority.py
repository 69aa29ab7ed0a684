"""Is an artefact no worse than its parent? Paired losses with bounds, and what follows from them.

Every question is asked of both, and rewordings of one question stand or fall together, so whole
originals are drawn again: the cluster bootstrap (Field and Welsh, J. R. Stat. Soc. B 69, 2007; for
comparisons of language models: Miller, "Adding Error Bars to Evals", arXiv 2411.00640). Lost and
won questions are counted as in McNemar's test (Psychometrika 12, 1947). A loss is parent minus
artefact in percentage points. Knows nothing of bots.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ORIGINALS",
    "QUESTIONS",
    "Loss",
    "Verdict",
    "certain",
    "decide",
    "paired_loss",
    "worst",
]

QUESTIONS = 1500
"""Paired questions that a decision needs."""

ORIGINALS = 50
"""Different questions among them: a bootstrap over fewer clusters is too sure of itself
(Cameron, Gelbach and Miller, Rev. Econ. Stat. 90, 2008)."""

CHANCE = 0.05
"""What is likelier than that by a coin is called chance."""

_DRAWS = 2000
_NONE_SEEN = 3.0
"""Where nothing was lost, up to 3 of n may be: the rule of three (Hanley and Lippman-Hand, JAMA
249, 1983). There alone a rewording counts as a question of its own: none of them broke."""


class Verdict(StrEnum):
    """What became of an artefact, or of one measure of it."""

    PASSED = "passed"
    REFUSED = "refused"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Loss:
    """One measure of both: shares (0..1) of `questions`, and the loss in percentage points.

    `lower` and `upper` are one-sided 95 % bounds of the loss `estimate`. `lost` questions only the
    parent has right, `won` ones only the artefact. `chance` is how likely a coin makes as many
    originals lose, of those that differ: the exact sign test, which McNemar's is.
    """

    questions: int
    originals: int
    parent: float
    artefact: float
    estimate: float
    lower: float
    upper: float
    lost: int
    won: int
    chance: float = 1.0

    def needed(self, bound: float, estimate: float) -> int | None:
        """How many questions would let it pass, were the estimate to stay: its upper bound below
        `bound`, and `QUESTIONS` at least.

        The bound comes nearer with the root of their number, if they are of as many new originals;
        None where the loss itself is not below `estimate`, or there are as many already.
        """
        if self.estimate >= min(bound, estimate):
            return None
        ratio = (self.upper - self.estimate) / (bound - self.estimate)
        most = max(QUESTIONS, math.ceil(self.questions * ratio**2 * 1.02))
        return most if most > self.questions else None


def paired_loss(
    parent: Sequence[bool], artefact: Sequence[bool], originals: Sequence[Hashable], seed: int = 0
) -> Loss:
    """The loss of an artefact against its parent on the same questions, which is right where.

    `originals` names, for each question, the one it rewords (itself, if none).
    """
    if not len(parent) == len(artefact) == len(originals):
        raise ValueError("every question needs both outcomes and its original")
    if not parent:
        return Loss(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1.0)
    a, b = np.array(parent, bool), np.array(artefact, bool)
    names = {name: place for place, name in enumerate(dict.fromkeys(originals))}
    cluster = np.array([names[name] for name in originals])
    size = np.bincount(cluster).astype(float)
    lost = np.bincount(cluster, weights=a.astype(float) - b).astype(float)
    estimate = 100 * float(lost.sum() / size.sum())
    lower, upper = np.quantile(_draws(lost, size, seed), [0.05, 0.95])
    if not (a & ~b).any():
        upper = max(upper, estimate / 100 + _NONE_SEEN / len(a))
    return Loss(
        questions=len(a),
        originals=len(names),
        parent=round(float(a.mean()), 4),
        artefact=round(float(b.mean()), 4),
        estimate=round(estimate, 3),
        lower=round(100 * float(lower), 3),
        upper=round(100 * float(upper), 3),
        lost=int((a & ~b).sum()),
        won=int((b & ~a).sum()),
        chance=round(_coin(int((lost > 0).sum()), int((lost < 0).sum())), 6),
    )


def _coin(lost: int, won: int) -> float:
    """How likely it is that at least `lost` of both fall to one side of a coin."""
    every = lost + won
    return float(sum(math.comb(every, count) for count in range(lost, every + 1)) / 2**every)


def _draws(lost: NDArray[np.float64], size: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The loss a question (-1..1) in `_DRAWS` samples of whole clusters."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(8):
        drawn = rng.integers(0, len(lost), (_DRAWS // 8, len(lost)))
        found.append(lost[drawn].sum(1) / size[drawn].sum(1))
    return np.concatenate(found)


def decide(loss: Loss, *, bound: float, estimate: float, enough: bool) -> Verdict:
    """What a measure says, by this rule.

    Passed: there are `enough` questions, the upper bound of the loss is under `bound` and its
    estimate under `estimate`. Refused: there are enough, the estimate is not, and the loss is no
    chance (see `certain`); or, on any number of questions, even the lower bound is not under
    `bound`. Undecided is all between: more questions would tell.
    """
    if enough and loss.upper < bound and loss.estimate < estimate:
        return Verdict.PASSED
    if certain(loss, bound):
        return Verdict.REFUSED
    if enough and loss.estimate >= estimate and certain(loss):
        return Verdict.REFUSED
    return Verdict.UNDECIDED


def certain(loss: Loss, bound: float = 0.0) -> bool:
    """Whether a loss is no chance and over `bound`: by its lower bound, and, since a bootstrap of
    few originals that differ is too sure of itself, by the sign test as well."""
    return loss.lower >= bound and loss.lower > 0 and loss.chance < CHANCE


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Refused if any is, else undecided if any is, else passed."""
    for verdict in (Verdict.REFUSED, Verdict.UNDECIDED):
        if verdict in verdicts:
            return verdict
    return Verdict.PASSED

"""A class head: which entry do this question's vectors belong to, learned from many wordings.

Multinomial logistic regression over sentence vectors, one class for each entry with enough
wordings and one for everything else. Fitted with Adam (Kingma and Ba, arXiv 1412.6980) in numpy,
in seconds on a CPU. Knows nothing of search or of thresholds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .encoder import Vectors
from .errors import ArtifactError

__all__ = ["MAX_CLASSES", "MIN_WORDINGS", "ClassHead", "HeadScores", "out_of_fold"]

MIN_WORDINGS, MAX_CLASSES = 5, 2000
EPOCHS, BATCH, RATE, DECAY, SCALE = 20, 256, 0.02, 2e-4, 8.0
FOLDS = 4
_FEWEST_STEPS = 400


@dataclass(frozen=True)
class HeadScores:
    """Log-probabilities of the classes of one question; `rest` is that no class holds it."""

    of_entry: dict[int, float]
    rest: float

    def likeliest(self, count: int) -> list[int]:
        """The entries of the likeliest classes."""
        return sorted(self.of_entry, key=lambda entry: -self.of_entry[entry])[:count]

    def mean(self, other: "HeadScores") -> "HeadScores":
        """The mean of two heads' log-probabilities; what one does not know, the other tells."""
        both = {**self.of_entry, **other.of_entry}
        found = {
            entry: (self.of_entry.get(entry, value) + other.of_entry.get(entry, value)) / 2
            for entry, value in both.items()
        }
        return HeadScores(found, (self.rest + other.rest) / 2)

    def features(self, entry: int, absent: int | None = None) -> tuple[float, float]:
        """How much likelier the entry is than the rest, and than the best of all others.

        An entry without a class belongs to the rest: (0, and what is left to the best class).
        `absent` is an entry that is not there.
        """
        others = (value for value, e in self._best if e not in (entry, absent))
        own = self.of_entry.get(entry, self.rest)
        return own - self.rest, own - max(self.rest, next(others, self.rest))

    @cached_property
    def _best(self) -> list[tuple[float, int]]:
        """The likeliest classes: as many as may be left out, and one more."""
        return nlargest(3, ((value, entry) for entry, value in self.of_entry.items()))


@dataclass(frozen=True, slots=True)
class ClassHead:
    """`weights` (dimensions, classes + 1) and `bias`, the rest last; `entries` of the classes."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    entries: NDArray[np.int64]

    @classmethod
    def fit(
        cls, vectors: Vectors, owner: NDArray[np.int64], rest: Vectors, seed: int = 0
    ) -> "ClassHead | None":
        """Fit on wordings' vectors and their entries; `rest` are vectors of no entry.

        None where fewer than two entries have `MIN_WORDINGS`, or more than `MAX_CLASSES` have.
        Wordings of the other entries belong to the rest.
        """
        entries = _classes(owner)
        return cls._of(entries, vectors, owner, rest, seed) if len(entries) else None

    @classmethod
    def _of(
        cls,
        entries: NDArray[np.int64],
        vectors: Vectors,
        owner: NDArray[np.int64],
        rest: Vectors,
        seed: int,
    ) -> "ClassHead":
        place = np.full(int(max(owner.max(), entries.max())) + 1, len(entries), np.int64)
        place[entries] = np.arange(len(entries))
        x = np.vstack([vectors, rest.reshape(len(rest), vectors.shape[1])]).astype(np.float32)
        y = np.concatenate([place[owner], np.full(len(rest), len(entries), np.int64)])
        return cls(*_softmax_fit(x, y, len(entries) + 1, seed), entries)

    def scores(self, vector: NDArray[np.float32]) -> HeadScores:
        """The log-probabilities of one question's vector."""
        odds = (vector @ self.weights + self.bias).astype(np.float64)
        odds -= odds.max()
        odds -= np.log(np.exp(odds).sum())
        told = zip(self.entries, odds[:-1], strict=True)
        return HeadScores({int(e): float(value) for e, value in told}, float(odds[-1]))

    def save(self, path: Path) -> None:
        """Write as npz, weights in half precision."""
        np.savez(
            path, weights=self.weights.astype(np.float16), bias=self.bias, entries=self.entries
        )

    @classmethod
    def load(cls, path: Path) -> "ClassHead":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is not a class head.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                weights = held["weights"].astype(np.float32)
                return cls(weights, held["bias"].astype(np.float32), held["entries"])
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{path} is not a class head ({error}); build the bot anew"
            ) from None


def out_of_fold(
    vectors: Vectors, owner: NDArray[np.int64], rest: Vectors, wanted: Sequence[int], seed: int = 0
) -> dict[int, HeadScores]:
    """Scores of the wordings at `wanted`, each by a head that did not see it; and of the rest,
    keyed -1, -2, ... in order."""
    entries = _classes(owner)
    if not len(entries):
        return {}
    order = np.random.default_rng(seed).permutation(len(vectors))
    strange = np.arange(len(rest))
    found: dict[int, HeadScores] = {}
    asked = set(wanted)
    for fold in range(FOLDS):
        out, away = order[fold::FOLDS], strange[fold::FOLDS]
        kept = np.setdiff1d(strange, away)
        seen = np.setdiff1d(order, out)
        head = ClassHead._of(entries, vectors[seen], owner[seen], rest[kept], seed + fold)
        found.update({int(n): head.scores(vectors[n]) for n in out if int(n) in asked})
        found.update({-1 - int(n): head.scores(rest[n]) for n in away})
    return found


def _classes(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Entries with enough wordings; none where they are too few or too many."""
    counts = np.bincount(owner) if len(owner) else np.zeros(0, np.int64)
    entries = np.flatnonzero(counts >= MIN_WORDINGS).astype(np.int64)
    return entries if 2 <= len(entries) <= MAX_CLASSES else entries[:0]


def _softmax_fit(
    x: NDArray[np.float32], y: NDArray[np.int64], classes: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights and bias of a softmax over `x`, by mini-batches with a cosine schedule."""
    x = x * SCALE
    weights, bias = np.zeros((x.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    state = [[np.zeros_like(p), np.zeros_like(p)] for p in (weights, bias)]
    epochs = max(EPOCHS, -(-_FEWEST_STEPS * BATCH // len(x)))
    total = epochs * -(-len(x) // BATCH)
    for step, chosen in enumerate(_batches(len(x), epochs, seed), start=1):
        odds = x[chosen] @ weights + bias
        odds = np.exp(odds - odds.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        odds[np.arange(len(chosen)), y[chosen]] -= 1.0
        odds /= len(chosen)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / total))
        gradients = (x[chosen].T @ odds + DECAY * weights, odds.sum(0))
        for parameter, gradient, (mean, square) in zip(
            (weights, bias), gradients, state, strict=True
        ):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            corrected = mean / (1 - 0.9**step)
            parameter -= rate * corrected / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights * SCALE, bias


def _batches(count: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from (order[start : start + BATCH] for start in range(0, count, BATCH))

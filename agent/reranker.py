"""Reads a question and an entry together and says how well the entry answers it.

A cross-encoder (Nogueira and Cho, arXiv 1901.04085) on MiniLM, int8 ONNX. It sees what two vectors
apart cannot: that the entry speaks of the subject but not of what was asked, and what "and for
children?" leans on. Knows nothing of search or of thresholds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .encoder import is_latin, open_session
from .errors import ArtifactError

__all__ = ["RERANKER", "CrossEncoder", "Reranker", "pair_ids"]

RERANKER = "minilm-l6-v2-reranker"
"""The default reranker, for English."""

MAX_BEFORE, MAX_QUESTION, MAX_WORDING, MAX_PAIR = 24, 48, 32, 112
LEAST, SERVED = 16, 48
"""A question is read with the start of an answer: as good on the sample, in half the time."""

Scores = NDArray[np.float64]


class Reranker(Protocol):
    """What the router needs of a reranker."""

    id: str

    def score(self, question: str, entries: Sequence[tuple[str, str]], before: str = "") -> Scores:
        """Log-odds, shape (len(entries),), that each (wording, answer) answers the question.

        `before` is the customer's turn before. Only differences between entries, and to the 0
        of an entry that half answers, have a meaning.
        """
        ...

    def reads(self, text: str) -> bool:
        """Whether the text is in a language it knows."""
        ...


def pair_ids(
    tokenizer: Tokenizer,
    question: str,
    wording: str,
    answer: str,
    before: str = "",
    longest: int = MAX_PAIR,
) -> tuple[list[int], list[int]]:
    """Token and segment ids of a pair: the one layout of training and serving.

    `[CLS] before [SEP] question [SEP]` and `wording [SEP] answer [SEP]`, each cut to its length,
    and all to `longest`, but for the first half and `LEAST` tokens of the second.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    first = [start]
    if before:
        first += [*ids(before)[-MAX_BEFORE:], end]
    first += [*ids(question)[:MAX_QUESTION], end]
    second = ids(wording)[:MAX_WORDING]
    if answer:
        second += [end, *ids(answer)]
    second = [*second[: max(LEAST, longest - len(first) - 1)], end]
    return first + second, [0] * len(first) + [1] * len(second)


class CrossEncoder:
    """A BERT-like ONNX model and `head.npy`, the weights (bias last) over its mean token state."""

    def __init__(self, folder: Path, threads: int = 0, identity: str = RERANKER) -> None:
        self.id = identity
        names = ("model.onnx", "tokenizer.json", "head.npy")
        if not all((folder / name).exists() for name in names):
            raise ArtifactError(f"{folder} holds no reranker ({', '.join(names)})")
        self._session = open_session(folder / "model.onnx", threads)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._head = np.load(folder / "head.npy", allow_pickle=False).astype(np.float64)

    def reads(self, text: str) -> bool:
        """Whether the text is in Latin script: MiniLM knows English."""
        return is_latin(text)

    def score(self, question: str, entries: Sequence[tuple[str, str]], before: str = "") -> Scores:
        """Log-odds that each (wording, answer) answers the question; shape (len(entries),)."""
        if not entries:
            return np.zeros(0)
        pairs = [pair_ids(self._tokenizer, question, w, a, before, SERVED) for w, a in entries]
        shape = (len(pairs), max(len(ids) for ids, _ in pairs))
        ids, kinds, seen = (np.zeros(shape, np.int64) for _ in range(3))
        for row, (tokens, segments) in enumerate(pairs):
            ids[row, : len(tokens)] = tokens
            kinds[row, : len(tokens)] = segments
            seen[row, : len(tokens)] = 1
        feed = {"input_ids": ids, "attention_mask": seen, "token_type_ids": kinds}
        states = self._session.run(None, feed)[0]
        weights = seen[:, :, None].astype(np.float32)
        pooled = (states * weights).sum(1) / weights.sum(1)
        return np.asarray(pooled @ self._head[:-1] + self._head[-1], np.float64)

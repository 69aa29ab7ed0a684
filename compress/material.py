"""What a compression learns from and is judged by: a bot's own questions, and general text.

Rows are contexts with their questions, as in training; texts are passages to read. Knows nothing
of what is done with them.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ..agent.errors import InputError
from ..agent.prompt import END_OF_TURN, render
from ..agent.types import Entry
from . import dataset
from .dataset import Encoded, Row, encode, pack

__all__ = [
    "Material",
    "batches",
    "bot_material",
    "encode_text",
    "encoded",
    "load_material",
    "material_of",
    "shipped_material",
]

LENGTH = 448
"""Tokens of one packed sequence: room for four entries, as many as the router passes."""

OWN = 0.5
"""The share of rows of the bot's own entries."""

BESIDE = 2
"""Questions a row that it does not answer: whether to refuse is what pruning blurs first."""


@dataclass(frozen=True, slots=True)
class Material:
    """`rows` and `texts` to measure importance and to train on; `held` rows to judge by.

    `words` are texts whose tokens a vocabulary keeps, though nothing is learned from them: the
    FAQ in all its languages.
    """

    rows: tuple[Row, ...]
    held: tuple[Row, ...]
    texts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def digest(self) -> str:
        """Names the data by its content."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def passages(self) -> Iterator[str]:
        """Every text as the model reads or writes it."""
        yield from self.words
        yield from self.texts
        for row in (*self.rows, *self.held):
            yield from render(row.entries, "").texts[:-1]
            for question in row.questions:
                yield render((), question.text, question.history).question
                yield question.target + END_OF_TURN

    def wholes(self) -> Iterator[str]:
        """Every prompt with its answer, as one text."""
        for row in (*self.rows, *self.held):
            for question in row.questions:
                prompt = render(row.entries, question.text, question.history)
                yield "".join(prompt.texts) + question.target + END_OF_TURN


def shipped_material(count: int = 1200, seed: int = 7) -> Material:
    """Rows of the topics that ship with the package: what there is without a bot."""
    from .corpora import load_topics, split_topics, topic_rows

    topics, held = split_topics(load_topics())
    return Material(
        tuple(topic_rows(topics, count, seed, BESIDE)),
        tuple(topic_rows(held, count // 8, seed + 1, BESIDE)),
    )


def bot_material(entries: Sequence[Entry], count: int = 1200, seed: int = 7) -> Material:
    """Rows of a bot's own FAQ, half of them of shipped topics, each also asked what its entries
    do not answer; every sixteenth entry is held out."""
    from .corpora import bot_rows, load_topics, split_topics

    topics, _ = split_topics(load_topics())
    made = bot_rows(entries, topics, count, seed, own=OWN, beside=BESIDE)
    training, held = dataset.split(made, 1 / 16, seed)
    words = tuple(
        text for entry in entries for text in (entry.question, entry.answer, *entry.variants)
    )
    return Material(tuple(training), tuple(held), (), words)


def load_material(path: Path, seed: int = 7) -> Material:
    """Calibration data from a file: `.jsonl` of training rows, or `.txt` of one passage a line.

    Raises:
        InputError: it is missing, empty, or of another kind.
    """
    if not path.is_file():
        raise InputError(path, "no such file; name calibration data as .jsonl rows or .txt")
    if path.suffix == ".txt":
        try:
            told = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(path, "is not UTF-8 text; convert it") from None
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        if not lines:
            raise InputError(path, "no calibration data: the file is empty")
        return Material((), (), tuple(lines))
    if path.suffix != ".jsonl":
        raise InputError(path, "calibration data is a .jsonl of training rows, or a .txt")
    rows = list(dataset.load(path))
    if not rows:
        raise InputError(path, "no calibration data: the file is empty")
    training, held = dataset.split(rows, 0.1, seed)
    return Material(tuple(training or held), tuple(held))


def material_of(name: str, seed: int = 7) -> Material:
    """Calibration data by name: the FAQ of a `bot.toml`, a file of rows or texts, or, for the
    empty name, what ships.

    Raises:
        InputError, ConfigError: the file cannot be read.
    """
    if not name:
        return shipped_material(seed=seed)
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        return load_material(path, seed)
    from ..agent.config import load_config
    from ..agent.ingest import read_faq

    told = load_config(path)
    return bot_material(read_faq(*(path.parent / faq for faq in told.bot.faq)), seed=seed)


def encode_text(text: str, tokenizer: Tokenizer, length: int = LENGTH) -> Encoded:
    """A passage as one sequence that is learned from its second token on."""
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids[:length], np.int64)
    labels = ids.copy()
    labels[:1] = -100
    n = len(ids)
    zeros = np.zeros(n, np.int64)
    return Encoded(ids, np.arange(n), labels, zeros, zeros, np.zeros(n, bool))


def encoded(
    rows: Sequence[Row], texts: Sequence[str], tokenizer: Tokenizer, length: int = LENGTH
) -> list[Encoded]:
    """Rows and passages as token arrays; rows longer than `length` are left out."""

    def tokens(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    found = [encode(row, tokens) for row in rows]
    found += [encode_text(text, tokenizer, length) for text in texts]
    return [one for one in found if 1 < len(one) <= length]


def batches(
    sequences: Sequence[Encoded], size: int, seed: int, length: int = LENGTH
) -> Iterator[list[Encoded]]:
    """Packed sequences in groups of `size`, in an order that the seed decides."""
    packed = pack(sequences, length, random.Random(seed))
    for start in range(0, len(packed), size):
        yield packed[start : start + size]

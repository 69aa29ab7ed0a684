"""Turns entries and questions into training rows: what the model reads and what it should write.

A row is one context (the entries as the router would pass them, best first) with the questions
asked of it. Knows nothing of where the text comes from (see `corpora`) or of the optimizer.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.errors import InputError
from ..agent.prompt import END_OF_TURN, render
from ..agent.types import Entry, Turn

__all__ = ["Encoded", "Question", "Row", "encode", "load", "mask", "pack", "save", "split"]

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the turns before it, and the text the model should write."""

    text: str
    target: str
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A context with its questions.

    `group` names the entry the row is about: rows of a group fall on one side of the split.
    `block` rows are trained with block attention: each entry sees only itself.
    """

    entries: tuple[Entry, ...]
    questions: tuple[Question, ...]
    group: str
    source: str
    block: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token arrays of one or more rows, all of length n.

    `ids`, `positions` (RoPE positions; every question starts right after its context),
    `labels` (-100 where no loss is taken), `rows`, `segments` (0 the system line, 1.. entries,
    negative numbers the questions) and `block` (whether the row uses block attention).
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    segments: NDArray[np.int64]
    block: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


def encode(row: Row, tokens: Encode) -> Encoded:
    """Encode a row; the loss is taken on the targets and their end of turn only."""
    ids: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    segments: list[int] = []

    def add(block: list[int], start: int, segment: int, *, learn: bool) -> None:
        ids.extend(block)
        positions.extend(range(start, start + len(block)))
        labels.extend(block if learn else [-100] * len(block))
        segments.extend([segment] * len(block))

    context = render(row.entries, "")
    for number, text in enumerate((context.system, *context.entries)):
        add(tokens(text), len(ids), number, learn=False)
    start = len(ids)
    for number, question in enumerate(row.questions, start=1):
        asked = tokens(render((), question.text, question.history).question)
        add(asked, start, -number, learn=False)
        add(tokens(question.target + END_OF_TURN), start + len(asked), -number, learn=True)
    length = len(ids)
    return Encoded(
        np.array(ids),
        np.array(positions),
        np.array(labels),
        np.zeros(length, np.int64),
        np.array(segments),
        np.full(length, row.block),
    )


def pack(rows: Sequence[Encoded], length: int, rng: random.Random) -> list[Encoded]:
    """Join rows into sequences of at most `length` tokens, first fit, in a shuffled order.

    Packing leaves almost nothing to pad, which is what grouping by length is for. Rows longer
    than `length` are dropped.
    """
    order = [row for row in rows if len(row) <= length]
    rng.shuffle(order)
    open_bins: list[tuple[int, list[Encoded]]] = []
    full: list[list[Encoded]] = []
    for row in order:
        for place, (used, members) in enumerate(open_bins):
            if used + len(row) <= length:
                members.append(row)
                open_bins[place] = (used + len(row), members)
                break
        else:
            open_bins.append((len(row), [row]))
        if len(open_bins) > 8:
            fullest = max(range(len(open_bins)), key=lambda place: open_bins[place][0])
            full.append(open_bins.pop(fullest)[1])
    full.extend(members for _, members in open_bins)
    rng.shuffle(full)
    return [_join(members) for members in full]


def _join(rows: Sequence[Encoded]) -> Encoded:
    return Encoded(
        np.concatenate([row.ids for row in rows]),
        np.concatenate([row.positions for row in rows]),
        np.concatenate([row.labels for row in rows]),
        np.concatenate([np.full(len(row), number) for number, row in enumerate(rows)]),
        np.concatenate([row.segments for row in rows]),
        np.concatenate([row.block for row in rows]),
    )


def mask(sequence: Encoded) -> NDArray[np.bool_]:
    """Who may look at whom, shape (n, n): `True` where the row's token sees the column's.

    Tokens see earlier tokens of their own row; a question sees its context and itself, never
    another question; an entry of a block row sees only itself.
    """
    n = len(sequence)
    segments = sequence.segments
    order = np.arange(n)
    seen = (order[:, None] >= order[None, :]) & (sequence.rows[:, None] == sequence.rows[None, :])
    same = segments[:, None] == segments[None, :]
    context = segments[None, :] >= 0
    inside_context = (segments[:, None] >= 0) & context
    lone = sequence.block[:, None] & inside_context & ~same
    return np.asarray(seen & (same | context) & ~lone)


def split(rows: Iterable[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Training and validation rows, split by group so that paraphrases do not leak."""
    rows = list(rows)
    groups = sorted({row.group for row in rows})
    random.Random(seed).shuffle(groups)
    held = set(groups[: max(1, round(len(groups) * share))])
    return (
        [row for row in rows if row.group not in held],
        [row for row in rows if row.group in held],
    )


def save(rows: Iterable[Row], path: Path) -> int:
    """Write rows as JSONL; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_to_json(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def load(path: Path) -> Iterator[Row]:
    """Read rows written by `save`.

    Raises:
        InputError: there is no such file, or a line is not a training row.
    """
    if not path.is_file():
        raise InputError(path, "no such file; name a .jsonl of training rows")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _from_json(json.loads(line.decode("utf-8")))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    path, f"not a training row ({error}); write it anew", number
                ) from None


def _to_json(row: Row) -> dict[str, Any]:
    return {
        "entries": [{"question": e.question, "answer": e.answer} for e in row.entries],
        "questions": [
            {
                "text": q.text,
                "target": q.target,
                "history": [{"role": t.role, "content": t.content} for t in q.history],
            }
            for q in row.questions
        ],
        "group": row.group,
        "source": row.source,
        "block": row.block,
    }


def _from_json(data: dict[str, Any]) -> Row:
    return Row(
        entries=tuple(
            Entry(str(n), e["question"], e["answer"]) for n, e in enumerate(data["entries"])
        ),
        questions=tuple(
            Question(
                q["text"],
                q["target"],
                tuple(Turn(t["role"], t["content"]) for t in q["history"]),
            )
            for q in data["questions"]
        ),
        group=data["group"],
        source=data["source"],
        block=data["block"],
    )

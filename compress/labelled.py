"""Labelled texts for the classifier: from a CSV with parts, or from a bot's own FAQ.

Knows nothing of training.
"""

import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..agent.classifier import REST
from ..agent.config import load_config
from ..agent.errors import InputError
from ..agent.head import MIN_WORDINGS
from ..agent.ingest import read_faq
from ..agent.out_of_scope import out_of_scope_questions, read_out_of_scope

__all__ = ["Example", "Parts", "of_bot", "of_csv"]

Example = tuple[str, str]
"""A text and its label."""

HELD = 0.1
_STRANGE_HELD = 0.3
_PARTS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"}
_PARTS |= {"val": "validation", "dev": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows to train on, to judge by and to report on (may be empty)."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...] = ()


def of_csv(
    path: Path, validation: Path | None = None, test: Path | None = None, seed: int = 7
) -> Parts:
    """Rows of a CSV with columns `text`, `label` and perhaps `split` (train, validation, test).

    Without a validation part a tenth of every label is held out.

    Raises:
        InputError: the file is missing, has no such columns, or a row is wrong.
    """
    found = _read(path)
    parts = {name: list(found[name]) for name in ("train", "validation", "test")}
    for name, extra in (("validation", validation), ("test", test)):
        if extra is not None:
            parts[name] += [row for rows in _read(extra).values() for row in rows]
    if not parts["validation"]:
        parts["train"], parts["validation"] = _split(parts["train"], HELD, seed)
    if not parts["train"] or not parts["validation"]:
        raise InputError(path, "needs at least two rows of a label to train on and to judge by")
    return Parts(*(tuple(parts[name]) for name in ("train", "validation", "test")))


def of_bot(config_path: Path, seed: int = 7) -> Parts:
    """The wordings of a bot's entries that have enough of them, and questions that none answers.

    The labels are the entries' ids, and `REST`.

    Raises:
        InputError: fewer than two entries have `MIN_WORDINGS` wordings.
    """
    config = load_config(config_path)
    entries = read_faq(*(config_path.parent / name for name in config.bot.faq))
    many = [e for e in entries if len(e.questions) >= MIN_WORDINGS]
    if len(many) < 2:
        raise InputError(
            config_path,
            f"{len(many)} entries have {MIN_WORDINGS} wordings; a classifier needs two at least",
        )
    languages = {entry.language for entry in many} | {"en"}
    own = [q for n in config.bot.out_of_scope for q in read_out_of_scope(config_path.parent / n)]
    strange = [*own, *(q for q, language in out_of_scope_questions() if language in languages)]
    rows = [(text, entry.id) for entry in many for text in entry.questions]
    rest = [(text, REST) for text in dict.fromkeys(strange)]
    train, held = _split(rows, HELD, seed)
    known, unknown = _split(rest, _STRANGE_HELD, seed)
    return Parts((*train, *known), (*held, *unknown))


def _split(rows: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """A share of every label that has at least four rows is held out."""
    rng = random.Random(seed)
    by_label: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        by_label[row[1]].append(row)
    train: list[Example] = []
    held: list[Example] = []
    for found in by_label.values():
        rng.shuffle(found)
        count = max(1, round(share * len(found))) if len(found) >= 4 else 0
        held += found[:count]
        train += found[count:]
    return train, held


def _read(path: Path) -> dict[str, list[Example]]:
    """Rows by part; a file without `split` is all training rows."""
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = {name.strip().lower(): name for name in reader.fieldnames or []}
            missing = {"text", "label"} - set(columns)
            if missing:
                raise InputError(path, f"has no column {min(missing)!r}; needs text and label", 1)
            for row in reader:
                text, label, split = (
                    (row.get(columns.get(name, name)) or "").strip()
                    for name in ("text", "label", "split")
                )
                if not text or not label:
                    raise InputError(path, "a text or its label is empty", reader.line_num)
                part = _PARTS.get(split.lower() or "train")
                if part is None:
                    raise InputError(
                        path,
                        f"the split {split!r} is none of train, validation, test",
                        reader.line_num,
                    )
                parts[part].append((text, label))
    except FileNotFoundError:
        raise InputError(path, "no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"cannot be read as CSV: {error}") from None
    if not any(parts.values()):
        raise InputError(path, "the file holds no rows")
    return parts

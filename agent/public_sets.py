"""Reads the public intent sets of the routing benchmark. Knows nothing of bots."""

import csv
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, InputError

__all__ = [
    "BRAUN",
    "SETS",
    "Example",
    "banking77",
    "braun",
    "chitchat",
    "clinc150",
    "few",
    "folds",
    "wanted",
]

SETS = ("clinc150", "banking77", "braun", "chitchat")
BRAUN = ("Chatbot", "AskUbuntu", "WebApplications")
Example = tuple[str, str]
"""A question and its intent."""


def wanted(sets: Sequence[str]) -> tuple[str, ...]:
    """The sets to run: those named, or all.

    Raises:
        ConfigError: a name is unknown.
    """
    for name in sets:
        if name not in SETS:
            raise ConfigError(f"no public set {name!r}; known: {', '.join(SETS)}")
    return tuple(sets) or SETS


def clinc150(data: Path) -> dict[str, list[Example]]:
    """CLINC150 full (Larson et al., EMNLP 2019): its parts by name."""
    found = _json(data / "clinc150" / "data_full.json")
    return {name: [(text, label) for text, label in rows] for name, rows in found.items()}


def banking77(data: Path) -> tuple[list[Example], list[Example]]:
    """BANKING77 (Casanueva et al., 2020): training and test part."""
    parts = []
    for name in ("train", "test"):
        path = data / "banking77" / f"{name}.csv"
        with _open(path) as file:
            parts.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
    return parts[0], parts[1]


def braun(data: Path, name: str) -> tuple[list[Example], list[Example]]:
    """A corpus of Braun et al. (SIGDIAL 2017): training and test part."""
    rows = _json(data / "nlu_evaluation_corpora" / f"{name}Corpus.json")["sentences"]
    parts: tuple[list[Example], list[Example]] = ([], [])
    for row in rows:
        parts[0 if row["training"] else 1].append((row["text"], row["intent"]))
    return parts


def chitchat(data: Path) -> list[Example]:
    """The chit-chat list of nlp.js: questions, and the answer as their intent."""
    with _open(data / "nlpjs_chitchat_qna" / "chitchat_qna.tsv") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(row[0], row[1]) for row in rows if len(row) > 1 and row[0].strip()]


def few(rows: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` examples of every intent."""
    rng = random.Random(seed)
    by_intent: dict[str, list[Example]] = {}
    for row in rows:
        by_intent.setdefault(row[1], []).append(row)
    return [
        row for found in by_intent.values() for row in rng.sample(found, min(count, len(found)))
    ]


def folds(
    rows: Sequence[Example], count: int, seed: int
) -> Iterator[tuple[list[Example], list[Example]]]:
    """Training and test rows of a cross-validation."""
    order = list(rows)
    random.Random(seed).shuffle(order)
    for fold in range(count):
        test = order[fold::count]
        yield [row for place, row in enumerate(order) if place % count != fold], test


def _json(path: Path) -> Any:
    with _open(path) as file:
        return json.load(file)


def _open(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError:
        raise InputError(path, "no such file; --data names the folder of public sets") from None

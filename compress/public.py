"""Readers of the public sets that adapters are trained on; none of them is part of the project.

Knows nothing of rows or of training.
"""

import csv
import json
from collections import defaultdict
from pathlib import Path

from ..agent.types import Entry

__all__ = ["banking77", "bitext", "businesses", "clinc150"]


def businesses(path: Path, held_out: set[str]) -> dict[str, list[Entry]]:
    """The entries of every business of the DSTC9 FAQ that is not held out."""
    data = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, list[Entry]] = {}
    for domain, members in data.items():
        for number, business in members.items():
            name = f"{domain}/{number}"
            if name not in held_out:
                found[name] = [
                    Entry(f"{name}/{key}", doc["title"], doc["body"])
                    for key, doc in business["docs"].items()
                ]
    return found


def banking77(path: Path) -> dict[str, list[str]]:
    """The training part of BANKING77 (Casanueva et al. 2020) by intent."""
    found: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            found[line["category"]].append(line["text"])
    return found


def clinc150(path: Path) -> dict[str, list[str]]:
    """The training part of CLINC150 (Larson et al. 2019) by intent."""
    found: dict[str, list[str]] = defaultdict(list)
    for text, intent in json.loads(path.read_text(encoding="utf-8"))["train"]:
        found[intent].append(text)
    return found


def bitext(path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Bitext's customer-support utterances and responses of at most 80 words, by intent."""
    utterances: dict[str, list[str]] = defaultdict(list)
    answers: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if "{{" not in line["instruction"]:
                utterances[line["intent"]].append(line["instruction"])
            if "{{" not in line["response"] and 8 < len(line["response"].split()) < 80:
                answers[line["intent"]].append(" ".join(line["response"].split()))
    return utterances, answers

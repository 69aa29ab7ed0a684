"""Looks for mistakes in a FAQ: every bad row, duplicates, contradictions, expired entries."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rapidfuzz import fuzz

from .errors import InputError
from .grounding import claims, unsupported
from .ingest import files_of, read_raw, to_row
from .injection import disarmed
from .lexical import words
from .types import Entry

__all__ = ["Finding", "Report", "check", "check_file"]

Level = Literal["error", "warning", "info"]
_ALIKE = 92.0
_LONG = 1200


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at, with the places it concerns."""

    kind: str
    level: Level
    sources: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a FAQ holds and what is wrong with it."""

    entries: int
    languages: tuple[str, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def check_file(path: Path, today: date) -> Report:
    """Check a FAQ file, collecting every row that cannot be used instead of stopping.

    Raises:
        InputError: there is no such file.
    """
    entries: dict[str, Entry] = {}
    findings: list[Finding] = []
    for file in files_of(path):
        try:
            for raw in read_raw(file):
                try:
                    row = to_row(file, raw)
                except InputError as error:
                    findings.append(_error(error))
                    continue
                identity = row.id or row.entry.source
                before = entries.get(identity)
                if before and row.entry.answer and row.entry.answer != before.answer:
                    findings.append(
                        Finding(
                            "conflict",
                            "error",
                            (before.source, row.entry.source),
                            f"the id {row.id!r} has two answers; use one",
                        )
                    )
                entries.setdefault(identity, row.entry)
        except InputError as error:
            findings.append(_error(error))
    if not entries and not findings:
        raise InputError(path, "no entries found; it needs questions and answers")
    report = check(list(entries.values()), today)
    return Report(report.entries, report.languages, (*findings, *report.findings))


def _error(error: InputError) -> Finding:
    where = f"{error.path.name}:{error.line}" if error.line else error.path.name
    return Finding("row", "error", (where,), str(error).split(": ", 1)[1])


def check(entries: Sequence[Entry], today: date) -> Report:
    """Check entries that could be read."""
    findings = [*_single(entries, today), *_pairs(entries)]
    languages = tuple(sorted({entry.language for entry in entries}))
    return Report(len(entries), languages, tuple(findings))


def _single(entries: Sequence[Entry], today: date) -> Iterator[Finding]:
    for entry in entries:
        if entry.expired(today):
            yield Finding(
                "expired",
                "warning",
                (entry.source,),
                f"expired on {entry.valid_until}; it is never answered from",
            )
        if not entry.variants:
            yield Finding(
                "no_variants",
                "info",
                (entry.source,),
                "has one wording only; two or three more make it easier to find",
            )
        for sentence in disarmed(entry)[1]:
            yield Finding(
                "instruction",
                "warning",
                (entry.source,),
                f"entry reads like an instruction to the model: {sentence[:120]!r}; `build` leaves "
                "it out; reword it, or mark the entry verbatim",
            )
        if len(entry.answer) > _LONG:
            yield Finding(
                "long_answer",
                "info",
                (entry.source,),
                f"the answer has {len(entry.answer)} characters; shorter entries are "
                "found and read more easily",
            )


def _pairs(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Equal and nearly equal questions of different entries, compared within shared rare words."""
    plain = [(number, _normal(q)) for number, entry in enumerate(entries) for q in entry.questions]
    blocks: dict[str, list[int]] = defaultdict(list)
    tokens = [frozenset(words(text)) for _, text in plain]
    for place, kept in enumerate(tokens):
        for word in kept or {plain[place][1]}:
            blocks[word].append(place)
    seen: set[tuple[int, int]] = set()
    for place, kept in enumerate(tokens):
        rare = sorted(kept or {plain[place][1]}, key=lambda word: len(blocks[word]))[:2]
        for word in rare:
            for other in blocks[word][:200]:
                pair = (
                    min(plain[place][0], plain[other][0]),
                    max(plain[place][0], plain[other][0]),
                )
                if pair[0] == pair[1] or pair in seen:
                    continue
                likeness = fuzz.ratio(plain[place][1], plain[other][1])
                if likeness >= _ALIKE and _numbers(plain[place][1]) == _numbers(plain[other][1]):
                    seen.add(pair)
                    yield from _told(entries[pair[0]], entries[pair[1]], likeness == 100)


def _told(one: Entry, other: Entry, same: bool) -> Iterator[Finding]:
    sources = (one.source, other.source)
    yield Finding(
        "duplicate" if same else "near_duplicate",
        "warning",
        sources,
        f"{one.question!r} and {other.question!r} ask the same; make them one entry",
    )
    if one.answer != other.answer and (
        unsupported(one.answer, [other.answer])
        or set(claims(one.answer)) != set(claims(other.answer))
    ):
        yield Finding(
            "conflict", "warning", sources, "they ask the same and answer differently; correct one"
        )


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)

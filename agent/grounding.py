"""Is a reply supported by its sources? Checks what can be checked exactly, and streams safely.

Numbers with their units, prices, times, dates, links, addresses and names of a reply must stand
in a source, and no clause may deny what the clause of a source it follows says. Words flow while
they are streamed; what must be checked is held until it is whole. Knows nothing of models.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from .claims import Claim, Kind, find_claims, plain
from .clauses import courteous, sentences
from .evidence import Evidence, sources_of
from .quantities import NUMBER_WORDS
from .reading import Reading
from .sentence import sentence_of

__all__ = ["DOUBTFUL", "Judge", "StreamGuard", "claims", "missing", "sources_of", "unsupported"]

DOUBTFUL = "the reply as a whole"
"""What is named when every claim holds and yet the reply does not follow, or answer."""

_CONTRARY = 0.6
_OPEN = 2
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")


def claims(text: str) -> list[str]:
    """What a text states that must be found in its source, lower-cased, in order."""
    return [claim.text for claim in find_claims(plain(text)) if _counts(claim)]


def _counts(claim: Claim) -> bool:
    return not (claim.implied or claim.opening)


def unsupported(reply: str, sources: Sequence[str], question: str = "") -> tuple[str, ...]:
    """The claims of a reply that no source holds and the sentences that deny one.

    Empty when it is grounded. Of the customer's question only days of the week count, which a
    source may span: "Monday to Friday" says Tuesday.
    """
    return missing(reply, Evidence.of(sources), question)


def missing(reply: str, evidence: Evidence, question: str = "") -> tuple[str, ...]:
    """As `unsupported`, with sources that are already read."""
    asked = sentence_of(plain(question))
    found: list[str] = []
    for text in sentences(plain(reply)):
        if courteous(text):
            continue
        reading = Reading(sentence_of(text), evidence, {}, asked)
        found.extend(_named(claim, evidence) for claim in reading.unsupported())
        if reading.contrary(2) >= _CONTRARY:
            found.append(text)
    return tuple(dict.fromkeys(found))


def _named(claim: Claim, evidence: Evidence) -> str:
    """What to call a missing claim: the number word alone where only that is new."""
    first = claim.text.split(" ")[0]
    worded = claim.kind is Kind.QUANTITY and first in NUMBER_WORDS
    return first if worded and first not in evidence.letters else claim.text


class Judge(Protocol):
    """What the guard needs of a score, such as `support.Support`."""

    def doubts_sentence(self, sentence: str, evidence: Evidence, question: str = "") -> bool:
        """Whether a finished sentence is too likely wrong to be shown."""
        ...

    def doubts(self, reply: str, evidence: Evidence, question: str = "") -> bool:
        """Whether a whole reply is too likely wrong to be sent."""
        ...


class StreamGuard:
    """Releases a reply as it is written, word by word, and stops at the first ungrounded claim.

    A word is released when it and what it may belong to are whole: a number with its unit, a
    name, a link. A sentence that denies more or less than the source it follows, or that holds a
    word no source has, is held back until it is complete and `judge` does not doubt it.
    """

    def __init__(
        self, sources: Iterable[str], question: str = "", judge: Judge | None = None
    ) -> None:
        self._evidence = Evidence.of(list(sources))
        self._question = question
        self._asked = sentence_of(plain(question))
        self._judge = judge
        self._text = ""
        self._released = 0
        self._judged = 0
        self._seen, self._safe = -1, 0
        self.failed: tuple[str, ...] = ()

    def feed(self, text: str) -> str:
        """Take the text so far (all of it) and return what may now be released."""
        self._text = text
        return self._release(self._safe_end(text))

    def finish(self) -> str:
        """Judge the reply as a whole and release what is left."""
        out = self._release(len(self._text))
        judge = self._judge if _is_read(self._text) else None
        told = (self._text, self._evidence, self._question)
        if judge and not self.failed and judge.doubts(*told):
            self.failed = (DOUBTFUL,)
        return "" if self.failed else out

    def _release(self, end: int) -> str:
        if self.failed or end <= self._released:
            return ""
        self.failed = self._wrong(end)
        if self.failed:
            return ""
        out = self._text[self._released : end]
        self._released = end
        return out

    def _wrong(self, end: int) -> tuple[str, ...]:
        """What of the text up to `end` is wrong: its claims, and its finished sentences whole."""
        text = self._text[:end]
        whole = end == len(self._text)
        start = len(text) if whole else _start(text)
        done = text[self._judged : start]
        found = list(missing(done, self._evidence, self._question)) if done.strip() else []
        if not found:
            for sentence in sentences(done):
                if self._doubts(sentence):
                    return (sentence,)
            self._judged = start
            rest = Reading(sentence_of(plain(text[start:])), self._evidence, {}, self._asked)
            found = [_named(claim, self._evidence) for claim in rest.unsupported()]
        return tuple(found)

    def _doubts(self, sentence: str) -> bool:
        if self._judge is None or courteous(sentence) or not _is_read(sentence):
            return False
        return self._judge.doubts_sentence(sentence, self._evidence, self._question)

    def _safe_end(self, text: str) -> int:
        """Up to the last finished word that no open claim holds; the start of a sentence that is
        suspicious so far."""
        end = max(text.rfind(" "), text.rfind("\n"))
        if end < 0:
            return 0
        if end != self._seen:  # the same words were looked at before
            start = _start(text[:end])
            sentence = text[start:end]
            self._safe = start + (0 if self._suspicious(sentence) else _closed(sentence))
            self._seen = end
        return self._safe

    def _suspicious(self, sentence: str) -> bool:
        reading = Reading(sentence_of(plain(sentence)), self._evidence, {}, self._asked)
        if reading.contrary() > 0.34:
            return True
        return self._judge is not None and any(
            reading.novelty(word) == 1.0 for word in reading.sentence.words
        )


def _is_read(text: str) -> bool:
    """Whether the score knows the script: it is fitted to English."""
    return not re.search(r"[\u3040-\u9fff\uac00-\ud7af]", text)


def _start(text: str) -> int:
    """Where the sentence that is being written begins."""
    return max((match.end() for match in _SENTENCE.finditer(text)), default=0)


def _closed(sentence: str) -> int:
    """How much of an unfinished sentence stands before a number or name that may go on."""
    words = list(re.finditer(r"\S+", sentence))
    end, place, open_from = len(sentence), len(words) - 1, len(words) - _OPEN
    while place >= max(0, open_from):
        word = words[place].group()
        last = place == len(words) - 1
        opens = place and last and re.search(r"^[A-Z]|[@/:.](?!$)|[.!?]$", word)
        counts = re.search(r"\d|[£€$¥]", word) or word.lower().strip(".,;") in NUMBER_WORDS
        if opens or (counts and not re.search(r"[,;.!?]$", word)):
            end, open_from = words[place].start(), place - _OPEN
        place -= 1
    return end

"""Is a reply supported by its sources? Checks what can be checked exactly, and streams safely.

Numbers, prices, times, dates, links, addresses, names and negations of a reply must stand in a
cited text. Words flow while they are streamed; what must be checked is held until it is whole.
Knows nothing of models; texts only.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["StreamGuard", "claims", "unsupported"]

_LINK = re.compile(
    r"(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.-]+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|"
    r"example|co\.uk|io|shop|de|cn)\b(?:/\S*)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_UNIT = r"(?:am|pm|a\.m\.|p\.m\.|%|kg|g|km|cm|mm|mph|gb|mb)"
_MONEY = re.compile(
    rf"(?:[£$€¥]|USD|EUR|GBP|CHF)\s?\d+(?:[.,]\d+)*|\d+(?:[.,:]\d+)*\s?{_UNIT}(?!\w)"
    r"|\d+(?:[.,]\d+)*\s?(?:[£€¥]|dollars?|euros?|pounds?|pence|cents?)(?!\w)",
    re.IGNORECASE,
)
_MONTH = re.compile(
    r"\b(?:january|february|march|april|may|june|july|august|september|october|"
    r"november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|"
    r"weekends?|weekdays?)s?\b",
    re.IGNORECASE,
)
_COUNTS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    "seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|"
    "thousand|half|quarter|double|twice|once"
)
_COUNT = re.compile(rf"\b(?:{_COUNTS})\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nothing|nobody|neither|nor|cannot|without|unable|except|only|unless|"
    r"free|\w+n['’]t)\b|[不没无非未别]",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)\b[A-Z][\w'’&-]+(?:\s+(?:of\s+|and\s+)?[A-Z][\w'’&-]+)*")
_HELD = re.compile(r"[\d£$€¥@:/.]")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
_YES_NO = re.compile(r"^\s*(yes|no)\b", re.IGNORECASE)


def claims(text: str) -> list[str]:
    """What a text states that must be found in its source, lower-cased, in order."""
    plain = _plain(text)
    found: list[str] = []
    for pattern in (_LINK, _MONEY, _NUMBER, _MONTH, _COUNT):
        found.extend(_bare(match.group()) for match in pattern.finditer(plain))
    found.extend(_bare(match.group()) for match in _NAME.finditer(plain))
    return [claim for claim in found if claim]


def unsupported(reply: str, sources: Sequence[str]) -> tuple[str, ...]:
    """The claims and negations of a reply that no source holds; empty when it is grounded.

    Negations are compared sentence by sentence: a sentence of the reply must not deny more or
    less than the sentence of a source that it is closest to.
    """
    text = _plain(" \n ".join(sources))
    squeezed = _bare(text)
    words = set(re.findall(r"\w+", text.lower()))
    missing = [claim for claim in claims(reply) if not _holds(squeezed, words, claim)]
    missing.extend(_turned(reply, sources))
    return tuple(dict.fromkeys(missing))


def _holds(squeezed: str, words: set[str], claim: str) -> bool:
    if re.fullmatch(r"[a-z'’&-]+", claim):
        return claim in words or claim.removesuffix("s") in words or claim in squeezed
    where = squeezed.find(claim)
    while where >= 0:
        before = squeezed[where - 1 : where]
        after = squeezed[where + len(claim) : where + len(claim) + 1]
        beyond = squeezed[where + len(claim) + 1 : where + len(claim) + 2]
        cut = (claim[0].isdigit() and before.isdigit()) or (
            claim[-1].isdigit() and (after.isdigit() or (after in ".,:" and beyond.isdigit()))
        )
        if not cut:
            return True
        where = squeezed.find(claim, where + 1)
    return False


def _turned(reply: str, sources: Sequence[str]) -> list[str]:
    """Sentences of the reply whose closest source sentence denies where they do not."""
    pool = [(s, _content(s)) for source in sources for s in _sentences(source)]
    wrong = []
    for sentence in _sentences(reply):
        mine = _content(sentence)
        if not mine or not pool:
            continue
        shared = [
            (len(mine & other) / len(mine | other), text) for text, other in pool if mine | other
        ]
        if not shared:
            continue
        best = max(score for score, _ in shared)
        nearest = [text for score, text in shared if score >= best - 1e-9]
        own = _denials(sentence)
        if best > 0 and all(_denials(text) != own for text in nearest):
            wrong.append(sentence.strip())
    return wrong


def _denials(sentence: str) -> set[str]:
    """The kinds of denial a sentence holds; a leading yes or no is an answer, not a denial."""
    found = set()
    for match in _NEGATION.finditer(_YES_NO.sub("", _plain(sentence))):
        word = match.group().lower()
        found.add(word if word in {"only", "unless", "except", "without", "free"} else "not")
    return found


def _content(sentence: str) -> frozenset[str]:
    text = _YES_NO.sub("", _plain(sentence)).lower()
    return frozenset(re.findall(r"[^\W_]{3,}|[一-鿿]", text)) - {"the", "and", "you", "for"}


def _sentences(text: str) -> list[str]:
    return [piece for piece in _SENTENCE.split(text.strip()) if piece]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("’", "'")


def _bare(text: str) -> str:
    """Lower case, no spaces inside prices and times, no trailing punctuation."""
    text = re.sub(r"\s+", " ", text.lower())
    text = re.sub(rf"(?<=\d)\s+(?={_UNIT}(?!\w))|(?<=[£$€¥])\s+", "", text)
    return text.strip(" .,;:!?)(")


class StreamGuard:
    """Releases a reply as it is written, word by word, and stops at the first ungrounded claim.

    A word is released when the word after it has begun, so numbers, links and names are whole;
    a sentence that denies more or less than the source sentence it follows is held back until
    it denies the same.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = list(sources)
        self._text = ""
        self._released = 0
        self.failed: tuple[str, ...] = ()

    def feed(self, text: str) -> str:
        """Take the text so far (all of it) and return what may now be released."""
        self._text = text
        return self._release(self._safe_end(text))

    def finish(self) -> str:
        """Release what is left."""
        return self._release(len(self._text))

    def _release(self, end: int) -> str:
        if self.failed or end <= self._released:
            return ""
        missing = (
            unsupported(self._text[:end], self._sources)
            if end == len(self._text)
            else (self._claims_missing(self._text[:end]))
        )
        if missing:
            self.failed = missing
            return ""
        out = self._text[self._released : end]
        self._released = end
        return out

    def _claims_missing(self, text: str) -> tuple[str, ...]:
        sentences = _sentences(text)
        whole = " ".join(sentences[:-1])
        squeezed = _bare(_plain(" \n ".join(self._sources)))
        words = set(re.findall(r"\w+", _plain(" ".join(self._sources)).lower()))
        loose = [c for c in claims(text) if not _holds(squeezed, words, c)]
        return tuple(loose) or (unsupported(whole, self._sources) if whole else ())

    def _denies_alike(self, sentence: str) -> bool:
        """Whether a sentence so far denies just what the source sentence it follows denies."""
        mine = _content(sentence)
        pool = [
            (len(mine & _content(s)), s) for source in self._sources for s in _sentences(source)
        ]
        best = max((shared for shared, _ in pool), default=0)
        own = _denials(sentence)
        near = [s for shared, s in pool if shared == best] if best else []
        return any(_denials(s) == own for s in near) if near else not own

    def _safe_end(self, text: str) -> int:
        """Up to the last finished word, held at an open number or name, and from the start of a
        sentence while it denies more or less than the source."""
        end = max(text.rfind(" "), text.rfind("\n"))
        if end < 0:
            return 0
        tail = text[:end]
        start = tail.rfind(" ", 0, end) + 1
        last = tail[start:]
        if _HELD.search(last[-1:]) and not last.endswith("."):
            return start
        sentence_start = max((m.end() for m in _SENTENCE.finditer(text[:end])), default=0)
        if not self._denies_alike(text[sentence_start:end]):
            return sentence_start
        if last[:1].isupper() and sentence_start < start:
            return start
        return end

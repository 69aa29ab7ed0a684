"""Cuts a text into sentences and clauses and says of each what it denies and what it limits.

For English, and as far as it goes for Chinese. Knows nothing of sources.
"""

import re
from dataclasses import dataclass

from .lexical import stem
from .lexicon import LIMITS, STOP, VERBS, opposites
from .quantities import NUMBER_WORDS, number_of

__all__ = ["Clause", "clauses", "contrary", "courteous", "sentences", "stems", "without_yes"]

_SENTENCE = re.compile(
    r"(?<!a\.m\.)(?<!p\.m\.)(?<!e\.g\.)(?<!i\.e\.)(?<=[.!?。！？])[\"')]*\s+|(?<=[。！？])|\n+"
)
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?(?:-[a-z]+)*|\d+(?:[.,:]\d+)*|[一-鿿]")
_JOINT = re.compile(
    r"\s*(?:[;—–，；：]|:(?!\d\d))\s*|\s+[-–]\s+|\s*\((?=\w)|\)\s*|,(?:\s+|(?=[一-鿿]))|\s+(?=(?:and|or|but|because|so|unless|except|"
    r"while|whereas|although|though|if|when|once|provided|otherwise|however|which|who|where|"
    r"since)\s)",
    re.IGNORECASE,
)
_LEAD = re.compile(r"^(?:and|or|but|so|because|then|otherwise|however)\s+", re.IGNORECASE)
_STARTS = re.compile(r"(?:except|unless|but)\b", re.IGNORECASE)
_YES_NO = re.compile(r"^\s*(?:yes|no|sorry|unfortunately|of course)\s*[,.!:;–—-]\s*", re.IGNORECASE)
_NOT = re.compile(
    r"\b(?:not|no|never|none|nothing|nobody|neither|nor|cannot|unable|impossible|forbidden|"
    r"prohibited|\w+n't)\b|[不没无非未别]",
    re.IGNORECASE,
)
_NO_NOT = re.compile(
    r"\b(?:no|not) (?:later|earlier|more|less|longer|fewer|older) than|\bno(?:t)? (?:matter|"
    r"worr\w+|doubt|only|just|need to worry|hesitate)\b|\bdon't (?:worry|hesitate)|\bif not\b|"
    r"\bor not\b|\bno\.(?= ?\d)|\bwhy not\b",
    re.IGNORECASE,
)
_FREE = re.compile(
    r"\bfree of charge\b|\bfor free\b|"
    r"\b(?:at no|no|without|not (?:any|an?)) (?:\w+ )?(?:cost|charge|fee)s?\b|"
    r"\b(?:not|\w+n't) (?:have to |need to )?(?:cost|be charged|charged|pay)(?: for)? "
    r"(?:you )?(?:anything|extra|a (?:thing|penny|cent))|\bpays? nothing\b|\bcosts? nothing\b",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|[\w.+-]+@\S+|\b[\w-]+(?:\.[\w-]+)+/\S*", re.ASCII)
_COURTESY = re.compile(
    r"\bhope (?:that|this)\b|\blet (?:me|us) know\b|\bthank(?:s| you)\b|\bhappy to help\b|"
    r"\bgood question\b|\banything else\b|\bhave a (?:nice|great|good|lovely)\b|\bwelcome[.!]|"
    r"^(?:hello|hi|hey|dear|sure|certainly|of course|yes|no|sorry|great|okay|ok)\b[^.]{0,14}[.!,]$|"
    r"\bfeel free to (?:ask|contact|reach)\b|\bno problem[.!,]|\bi(?:'m| am) (?:sorry|glad)\b",
    re.IGNORECASE,
)
_MOST_COURTEOUS = 14
_DIGITS = {word: f"{number_of(word):g}" for word in NUMBER_WORDS if number_of(word)}
_EXCLUSIVE = frozenset({"only", "unless", "except", "without"})


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence with one verb or so.

    `words` are its stems without stop words, `denied` whether it says not, `limits` its words
    such as only or unless.
    """

    text: str
    words: frozenset[str]
    denied: bool
    limits: frozenset[str]


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    return [piece for part in _SENTENCE.split(text.strip()) if (piece := part.strip())]


def stems(text: str) -> list[str]:
    """Lower-case stems in order, stop words left out; number words as digits."""
    found = _WORD.findall(text.lower())
    return [_DIGITS.get(word) or stem(word) for word in found if word not in STOP]


def courteous(sentence: str) -> bool:
    """Whether a sentence only greets, thanks or offers more help: it states nothing."""
    return len(sentence.split()) <= _MOST_COURTEOUS and bool(_COURTESY.search(sentence))


def without_yes(sentence: str) -> int:
    """Where a sentence begins after a leading yes or no."""
    match = _YES_NO.match(sentence)
    return match.end() if match else 0


def clauses(sentence: str) -> list[Clause]:
    """The clauses of a sentence; a leading yes or no is an answer and no part of one."""
    return [_clause(piece) for piece in _pieces(_YES_NO.sub("", sentence))]


def _clause(text: str) -> Clause:
    said = _NO_NOT.sub(" ", _FREE.sub("free", _ADDRESS.sub("@", text)))
    words = frozenset(stems(said))
    tokens = set(re.findall(r"[a-z]+", said.lower()))
    denied = len(_NOT.findall(said)) % 2 == 1
    return Clause(text, words, denied, frozenset(tokens & LIMITS))


def _pieces(sentence: str) -> list[str]:
    """Cut at joints; what has no verb of its own belongs to what stands before it, and at the
    beginning to what follows."""
    pieces: list[str] = []
    opening = ""
    for piece in _JOINT.split(sentence):
        if not re.search(r"\w", piece):
            continue
        words = re.findall(r"[\w'-]+", _LEAD.sub("", piece).lower())
        verbal = any(word in VERBS or "'" in word for word in words[:4])
        if verbal or _STARTS.match(piece) or re.search(r"[一-鿿]{2}", piece):
            pieces.append(f"{opening}, {piece}" if opening else piece)
            opening = ""
        elif pieces:
            pieces[-1] += f", {piece}"
        else:
            opening += f", {piece}" if opening else piece
    return [*pieces, opening] if opening else pieces


def contrary(one: Clause, other: Clause) -> bool:
    """Whether a clause says the contrary of another that is about the same.

    Opposite words and denials cancel: not open is closed. "Only if" and "not unless" agree.
    """
    mine, theirs = one.words - other.words, other.words - one.words
    opposed = any(opposites(word) & theirs for word in mine)
    flipped = opposed != (one.denied != other.denied)
    excused = one.denied != other.denied and (one.limits ^ other.limits) & _EXCLUSIVE
    return flipped and not excused

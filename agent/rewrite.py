"""Rewrites a question that leans on its conversation, and takes apart what asks several things.

An ordinal becomes what it points at in the bot's last words, a correction takes back what the turn
before said wrongly, and what is elliptical is marked to be searched for together with the turn
before. Rules only, for English and Chinese; knows nothing of entries or scores.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .texts import choices_in
from .types import Turn

__all__ = ["Rewritten", "parts", "refers_back", "rewritten", "turn_before"]

_LEANS = re.compile(
    r"^(and|but|also|what about|how about|what if|or|so|then|ok(ay)?,? (and|but)|why( not)?\b|"
    r"what else|which one|is that|is it|are they|does that|does it|do they|can it|can they|"
    r"and if|even|only|still|really)\b"
    r"|\b(it|that|they|them|those|these|one|ones|there|this|same|then|either|instead|though)\b",
    re.IGNORECASE,
)
_LEANS_ZH = re.compile(
    r"^(那|那么|还有|如果|要是|而|这个|这|它)|呢[？?]?$|(这个|那个|它|这些|那些|这样|那样)"
)
_ASKS = re.compile(
    r"^(what|how|when|where|which|who|why|can|could|do|does|did|is|are|will|would|should|may|"
    r"have|has|if|i|we|my|tell)\b",
    re.IGNORECASE,
)
_ASKING = (
    r"(?:what|how|when|where|which|who|why|can|could|do|does|did|is|are|will|would|should|may)\b"
)
_JOINTS = re.compile(
    r"\?+\s*(?:and|also|plus|oh and)?,?\s*|(?:,\s*|\s+)(?:oh )?and\s+(?:also\s+)?|;\s*|"
    r",\s*also\s+|\s+plus\s+|(?:,\s*)?\bas well as\b|[.!]\s+|[？；。]|\n+|\s+&\s+|"
    r"[,\s]+(?:oh )?(?:btw|by the way|while (?:i'?m|we'?re) at it|another (?:thing|question)|"
    r"second(?:ly)?)\b[,:]?\s*|"
    rf"(?:,|\s[-–—])\s*(?:also |then |or )?(?={_ASKING})|\s+(?:or|also|but)\s+(?={_ASKING})|"
    r"，(?:还有|另外|以及|并且|顺便问?一?下?)，?|(?:还有|另外|顺便问一下)[，,]?",
    re.IGNORECASE,
)
_OF_IT = re.compile(r"^(?:[\w']+ ){0,3}(?:it|they|that|this|those|these|them)\b", re.IGNORECASE)
_SHORT, _BARE, _BARE_ZH = 9, 3, 6

_PLACES = {
    **dict.fromkeys(("first", "1st", "one", "1", "一", "former", "前者"), 0),
    **dict.fromkeys(("second", "2nd", "two", "2", "二", "两"), 1),
    **dict.fromkeys(("third", "3rd", "three", "3", "三"), 2),
    **dict.fromkeys(("fourth", "4th", "four", "4", "四"), 3),
    **dict.fromkeys(("fifth", "5th", "five", "5", "五"), 4),
    **dict.fromkeys(("last", "latter", "最后", "后者"), -1),
}
_NTH = r"(?P<place>first|second|third|fourth|fifth|1st|2nd|3rd|4th|5th|last|former|latter)"
_OF = r"(?: (?:one|option|choice|thing|answer)\b)?(?: (?:of|from) (?:those|these|them|the list))?"
_ORDINAL = re.compile(
    rf"\b(?:the )?{_NTH}(?: (?:one|option|choice|of (?:those|these|them))\b|(?=\W*$))"
    r"|第(?P<zh>[一二三四五1-5])(?:个|家|种|项|条|款)?|(?P<end>最后)(?:一)?(?:个|家|种|项|条|款)"
    r"|(?P<pair>前者|后者)",
    re.IGNORECASE,
)
_PICK = re.compile(
    rf"(?:no(?: more|,)? ?|ok |yes |um+ |i (?:mean|want|meant) |it'?s |let'?s (?:say|take) )*"
    rf"(?:(?:the )?{_NTH}{_OF}|(?:the )?(?:no|nr|number|num|option|choice|#)?[. ]*"
    r"(?P<number>[1-5]|one|two|three|four|five)[.)]?|"
    r"第?(?P<zh>[一二三四五1-5])(?:个|家|种|项|条|款)?|(?P<end>最后)(?:一)?(?:个|家|种|项|条|款)?)"
    r"(?:,? (?:please|pls|thanks|then))?[\s.!?。！？]*",
    re.IGNORECASE,
)
_ITEMS = re.compile(r"[.;。；]\s*|,\s+(?:and |or )?|\s+(?:and|or)\s+|[、，]|(?<=[^\W\d])[和或]")

_CORRECTS = re.compile(
    r"^(?:no|nope|nah|sorry|wait|huh|eh|actually|oops|hang on|hold on|not)\b"
    r"|\bi (?:do ?n[o']?t |didn'?t )?(?:mean|meant|said)\b|\bother way (?:round|around)\b"
    r"|^(?:不是|不对|不，|错了|抱歉)|我(?:是说|说的是|指的是|问的是)",
    re.IGNORECASE,
)
_MARKERS = re.compile(
    r"^(?:(?:no|nope|nah|sorry|wait|huh|eh|actually|oops|hang on|hold on|hm+|other way (?:round|"
    r"around))\b[\s,.!?:;-]*)+"
    r"|\b(?:what )?i (?:actually |really )?(?:mean|meant|said)(?: is| was| to say)?\b"
    r"|^(?:(?:不是|不对|不|错了|抱歉)[，,。！!]\s*)+|我(?:是说|说的是|指的是|问的是)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:i (?:do ?n[o']?t|didn'?t) mean|not|instead of|rather than)\s+(?P<what>[^,.;!?]+)[,.;!?]*"
    r"|不是(?P<zh>[^，,。；！？]+)[，,。；！？]*",
    re.IGNORECASE,
)
_SMALL = frozenset("the a an my your our of to in on for with about from is it i".split())


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A question as it is searched for, and what of the turn before belongs to it."""

    question: str
    before: str = ""
    leans: bool = False


def rewritten(question: str, history: Sequence[Turn]) -> Rewritten:
    """A question with what it leans on in its conversation put in.

    `leans` tells that it means little without `before`.
    """
    before = turn_before(history)
    if not before:
        return Rewritten(question)
    items = _offered(history)
    place = _place(_PICK.fullmatch(question.strip()))
    if choices_in(_last_words(history)) and place is not None and place < len(items):
        return Rewritten(items[place])
    pointed = _ORDINAL.search(question)
    place = _place(pointed)
    if pointed and place is not None and items and place < len(items):
        filled = f"{question[: pointed.start()]} {items[place]} {question[pointed.end() :]}"
        return Rewritten(" ".join(filled.split()), before, leans=False)
    if _CORRECTS.search(question):
        return _corrected(question, before)
    return Rewritten(question, before, refers_back(question))


def refers_back(question: str) -> bool:
    """Whether a question leans on the conversation: short, and elliptical or with a pronoun."""
    text = question.strip()
    if re.search(r"[一-鿿]", text):
        return len(text) <= _BARE_ZH or (len(text) <= 16 and bool(_LEANS_ZH.search(text)))
    count = len(text.split())
    return count <= _BARE or (count <= _SHORT and bool(_LEANS.search(text)))


def turn_before(history: Sequence[Turn]) -> str:
    """The customer's last turn; empty without one."""
    asked = [turn.content.strip() for turn in history if turn.role == "user"]
    return asked[-1] if asked else ""


def _last_words(history: Sequence[Turn]) -> str:
    """What the bot said last."""
    return next((turn.content for turn in reversed(history) if turn.role == "assistant"), "")


def _offered(history: Sequence[Turn]) -> list[str]:
    """What the bot said last, item by item: a numbered list, or what stands in a row."""
    text = _last_words(history)
    _, colon, tail = text.partition(": ")
    row = tail if colon and len(_ITEMS.split(tail)) > 1 else text
    return choices_in(text) or [item.strip() for item in _ITEMS.split(row) if item.strip()]


def _place(found: re.Match[str] | None) -> int | None:
    """The place in a list that an ordinal names, -1 for the last."""
    if found is None:
        return None
    word = next((value for value in found.groupdict().values() if value), "")
    return _PLACES.get(word.lower())


def _corrected(question: str, before: str) -> Rewritten:
    """The turn before without what is taken back, and what takes its place."""
    denied = [m["what"] or m["zh"] for m in _DENIED.finditer(question)]
    kept = " ".join(_MARKERS.sub(" ", _DENIED.sub(" ", question)).split()).strip(" ,.!?，。")
    if not kept:
        return Rewritten(question, before, leans=True)
    wrong = {w for text in denied for w in re.findall(r"\w+", text.lower())} - _SMALL
    left = [w for w in before.split() if not wrong & set(re.findall(r"\w+", w.lower()))]
    for text in denied:
        left = " ".join(left).replace(text, "").split() if re.search(r"[一-鿿]", text) else left
    return Rewritten(kept, " ".join(left), leans=True)


def parts(question: str) -> list[str]:
    """The questions of a message that asks two or three; empty when it asks one.

    A part has at least three words (four Chinese characters) and reads like a question; one that
    leans on the part before ("is it gone?") is none.
    """
    pieces = [piece.strip(" ,.?!") for piece in _JOINTS.split(question)]
    found = [
        piece
        for place, piece in enumerate(pieces)
        if _is_question(piece) and not (place and _OF_IT.search(piece))
    ]
    return found[:3] if len(found) > 1 else []


def _is_question(text: str) -> bool:
    if re.search(r"[一-鿿]", text):
        return len(text) >= 4
    words = text.split()
    return len(words) >= 3 or (len(words) == 2 and bool(_ASKS.match(text)))

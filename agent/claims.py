"""What a text states that can be looked up: links, phones, times, dates, quantities, codes, names.

A claim carries keys under which equal facts meet, however they are written: 2pm and 14:00, two
weeks and 14 days. Knows nothing of sources; see `grounding` for what must hold.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from .lexical import stem
from .lexicon import STOP, rarity
from .quantities import MONTHS, NUMBER_WORDS, Quantity, quantities

__all__ = ["WEEKDAYS", "Claim", "Kind", "bare", "find_claims", "plain"]


class Kind(StrEnum):
    """What a claim is about."""

    LINK = "link"
    PHONE = "phone"
    TIME = "time"
    DATE = "date"
    WEEKDAY = "weekday"
    QUANTITY = "quantity"
    COUNT = "count"
    CODE = "code"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim at `start`..`end` of a plain text; `text` is how a person would name it.

    `bound` is `low` or `high` where the text says at least or at most, after or before.
    `implied` ones count in a source only, an `opening` one may be no name at all. `ends` is
    `first` or `last` in a range, and `span` the range.
    """

    kind: Kind
    text: str
    start: int
    end: int
    keys: frozenset[str]
    bound: str = ""
    implied: bool = False
    opening: bool = False
    ends: str = ""
    span: str = ""


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_LINK = re.compile(
    r"(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.-]+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|"
    r"example|co\.uk|io|shop|de|cn|test|info|eu|fr|uk)\b(?:/\S*)?",
    re.IGNORECASE | re.ASCII,
)
_PHONE = re.compile(r"(?<![\w.,£€$])\+?\(?\d[\d ()-]{6,}\d(?![\w%])")
_TIME = re.compile(
    r"(?<![\w.:])(?P<hour>[01]?\d|2[0-4])(?:(?P<dot>[:.])(?P<minute>[0-5]\d))?"
    r"\s?(?P<half>a\.m\.?|p\.m\.?|am|pm|o'clock)?(?!\w|[:.]\d)",
    re.IGNORECASE,
)
_NOON = re.compile(r"\b(?:noon|midday|midnight)\b", re.IGNORECASE)
_MONTH = "|".join(m for m in MONTHS if m not in {"may", "march"})
_MONTHS = rf"(?P<month>(?i:\b(?:{_MONTH})\b)|\b(?:May|March)\b)"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = (
    re.compile(rf"(?<!\d){_DAY}(?:\s+of)?\s+{_MONTHS}"),
    re.compile(rf"{_MONTHS}\s+(?:the\s+)?{_DAY}(?![\d:])"),
)
_LISTED = re.compile(r"(?<![\d.,:])(\d{1,2})(?:st|nd|rd|th)?(?:\s*(?:and|or|,|to|-|–)\s*)$")
_LONE_MONTH = re.compile(
    rf"\b(?i:{_MONTH})\b|(?:(?<=in )|(?<=from )|(?<=to )|(?<=of )|(?<=until )|(?<=by )|(?<=and )|"
    r"(?<=for )|(?<=since )|(?<=each )|(?<=every )|(?<=late )|(?<=early ))(?:May|March)\b"
)
_WEEKDAY = re.compile(rf"\b(?:(?:{'|'.join(WEEKDAYS)})s?|weekends?|weekdays?)\b", re.IGNORECASE)
_SHORT_DAY = re.compile(r"\b(?:Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)\b\.?")
_CODE = re.compile(r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]+\b")
_ATTACHED = re.compile(r"\d+(?:st|nd|rd|th|x|s)", re.IGNORECASE)
_NAME = re.compile(r"\b[A-Z][\w'&-]*(?:\s+(?:of\s+)?[A-Z][\w'&-]*)*")
_OPENING = re.compile(r"(?:^|[.!?:;。！？\n•*\"“(>]|\s[-–—])\s*[\"“(*]*$")
_NO_NAMES = frozenset("I I'm I'll I'd I've OK Ok FAQ A".split())
_INTERJECTIONS = frozenset(
    "absolutely certainly definitely hello hi hey thank thanks unfortunately regrettably luckily "
    "alas welcome okay indeed alternatively additionally furthermore moreover therefore".split()
)
_LOW = re.compile(
    r"(?:\bat least|\bfrom|\bover|\babove|\bmore than|\bstart(?:s|ing)? (?:at|from)|"
    r"\bminimum(?: of)?|"
    r"\bexceed\w*|\bafter|\bsince|\bno (?:less|fewer|earlier) than|\bupwards of|\bolder than|"
    r"\blater than|\bnot less than|\bbeyond|\bpast)"
    r"\s+(?:the |about |around |a )?$",
    re.IGNORECASE,
)
_HIGH = re.compile(
    r"(?:\bat most|\bup to|\bunder|\bbelow|\bless than|\bfewer than|\bwithin|\bmaximum(?: of)?|"
    r"\bmax|\bno (?:more|later|longer|older) than|\bnot (?:more|later) than|"
    r"\buntil|\btill|\bby|\bbefore)\s+(?:the |about |around |a |an )?$",
    re.IGNORECASE,
)
_LOW_AFTER = re.compile(
    r"\s*(?:(?:or|and) (?:more|over|above|older|later|longer|up|upwards)\b|\+|minimum\b)",
    re.IGNORECASE,
)
_HIGH_AFTER = re.compile(
    r"\s*(?:or (?:less|under|below|fewer|younger|sooner|earlier)\b|maximum\b|at (?:the )?"
    r"(?:most|latest)\b)",
    re.IGNORECASE,
)
_TO = re.compile(r"\s*(?:to|-|–|until|till)\s*[£€$]?\d", re.IGNORECASE)
_DAYS_TO = re.compile(r"\s*(?:to|until|till|through|-|–|—)\s*", re.IGNORECASE)
_NO_NOUN = re.compile(
    r"\s*(?:[.,;:)!?]|$|(?:in|on|at|for|to|if|when|a|an|and|or|from|with|after|before)\b)",
    re.IGNORECASE,
)
_Found = Iterator[tuple[Kind, int, int, set[str]]]


def plain(text: str) -> str:
    """The text in one form of its characters; lengths may change."""
    text = unicodedata.normalize("NFKC", text)
    return text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')


def bare(text: str) -> str:
    """Lower case, no spaces inside prices and times, no trailing punctuation."""
    text = re.sub(r"\s+", " ", text.lower())
    text = re.sub(r"(?<=\d)\s+(?=(?:[ap]\.?m\.?|%|[a-z]{1,2})(?!\w))|(?<=[£$€¥])\s+", "", text)
    return text.strip(" .,;:!?)(\"'")


def find_claims(text: str) -> list[Claim]:
    """The claims of a text that `plain` has been through, in their order."""
    found: list[Claim] = []
    taken = bytearray(len(text))
    for finder in _FINDERS:
        for kind, start, end, keys in finder(text):
            if any(taken[start:end]):
                continue
            taken[start:end] = b"\x01" * (end - start)
            said = bare(text[start:end])
            if said:
                found.append(
                    Claim(kind, said, start, end, frozenset(keys), _bound(text, start, end))
                )
    found.extend(_counted(text, taken))
    found.extend(_names(text, taken))
    return _with_spans(sorted(found, key=lambda claim: claim.start), text)


def _with_spans(found: list[Claim], text: str) -> list[Claim]:
    """Days as ends of their ranges: Monday to Friday is not Monday to Saturday."""
    for place in range(len(found) - 1):
        one, other = found[place], found[place + 1]
        if one.kind is other.kind is Kind.WEEKDAY and _DAYS_TO.fullmatch(
            text[one.end : other.start]
        ):
            span = f"{min(one.keys)}-{min(other.keys)}"
            found[place] = replace(one, ends="first", span=span)
            found[place + 1] = replace(other, ends="last", span=span)
    return found


def _links(text: str) -> _Found:
    for match in _LINK.finditer(text):
        said = match.group().rstrip(".,;:!?)\"'")
        key = re.sub(r"^(?:https?://)?(?:www\.)?", "", said.lower()).rstrip("/")
        yield Kind.LINK, match.start(), match.start() + len(said), {key}


def _phones(text: str) -> _Found:
    for match in _PHONE.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if len(digits) >= 8:
            yield Kind.PHONE, *match.span(), {digits[-9:]}


def _dates(text: str) -> _Found:
    for pattern in _DATES:
        for match in pattern.finditer(text):
            month = match["month"].lower()
            start = match.start()
            yield Kind.DATE, start, match.end(), {f"{int(match['day'])} {month}"}
            while listed := _LISTED.search(text, max(0, start - 12), start):
                start = listed.start()
                yield Kind.DATE, start, listed.end(1), {f"{int(listed.group(1))} {month}"}
    for match in _LONE_MONTH.finditer(text):
        yield Kind.DATE, *match.span(), {match.group().lower()}


def _times(text: str) -> _Found:
    """9:00 may be 21:00 where nothing tells which clock the text goes by."""
    found = [m for m in _TIME.finditer(text) if m["half"] or m["dot"] == ":"]
    clear = any(m["half"] or m["hour"].startswith("0") or int(m["hour"]) > 12 for m in found)
    for match in found:
        half = (match["half"] or "").lower().replace(".", "")
        hour, minute = int(match["hour"]), match["minute"] or "00"
        if half in {"am", "pm"}:
            keys = {f"{hour % 12 + (12 if half == 'pm' else 0)}:{minute}"}
        else:
            keys = {f"{hour % 24}:{minute}"}
            if 0 < hour < 12 and not clear:
                keys.add(f"{hour + 12}:{minute}")
        yield Kind.TIME, *match.span(), keys
    for match in _NOON.finditer(text):
        key = "0:00" if match.group().lower() == "midnight" else "12:00"
        yield Kind.TIME, *match.span(), {key}


def _weekdays(text: str) -> _Found:
    for pattern in (_WEEKDAY, _SHORT_DAY):
        for match in pattern.finditer(text):
            said = match.group().lower().rstrip(".")
            key = next((day for day in WEEKDAYS if day.startswith(said[:3])), "")
            yield Kind.WEEKDAY, *match.span(), {key or said.removesuffix("s")}


def _codes(text: str) -> _Found:
    for match in _CODE.finditer(text):
        said = match.group()
        measured = any(one.unit for one in quantities(said))
        if not measured and not _ATTACHED.fullmatch(said):
            yield Kind.CODE, *match.span(), {re.sub(r"\W", "", said.lower())}


_FINDERS: tuple[Callable[[str], _Found], ...] = (
    _links,
    _dates,
    _phones,
    _times,
    _weekdays,
    _codes,
)


def _counted(text: str, taken: bytearray) -> Iterator[Claim]:
    """Quantities, and counts of things; "or 2 in December" counts what was counted before."""
    before: Quantity | None = None
    for one in quantities(text):
        if any(taken[one.start : one.end]):
            continue
        kind = Kind.QUANTITY if one.unit else Kind.COUNT
        if not one.implied:
            taken[one.start : one.end] = b"\x01" * (one.end - one.start)
        keys = {one.key, *_same(one)}
        if before and not one.unit and _NO_NOUN.match(text, one.end):
            keys.add(f"{before.unit}:{one.value * before.factor:.6g}")
        before = one if one.unit and not one.implied else before
        bound = _bound(text, one.start, one.end)
        yield Claim(
            kind,
            bare(one.text),
            one.start,
            one.end,
            frozenset(keys),
            bound,
            one.implied,
            ends=one.ends,
            span=one.span,
        )


def _same(one: Quantity) -> set[str]:
    """Other keys of the same amount: a share and its percentage."""
    if one.unit == "percent":
        return {f":{one.value / 100:.6g}"} if one.value in {25, 50, 75} else set()
    return {f"percent:{one.value * 100:.6g}"} if not one.unit and 0 < one.value < 1 else set()


def _names(text: str, taken: bytearray) -> Iterator[Claim]:
    """Capitalised words; one that opens a sentence only where our topics do not know it."""
    for match in _NAME.finditer(text):
        start = match.start()
        if _OPENING.search(text, max(0, start - 6), start):
            first = re.match(r"[\w'&-]+", match.group())
            assert first is not None
            if not re.search(r"[A-Z]{2}|[a-z][A-Z]", first.group()):
                if not any(taken[start : start + first.end()]) and _unknown(first.group()):
                    yield _name(first.group(), start, opening=True)
                start += first.end()
        words = [
            (start + w.start(), w.group())
            for w in re.finditer(r"[\w'&-]+", text[start : match.end()])
            if not any(taken[start + w.start() : start + w.end()])
        ]
        words = [(place, w) for place, w in words if w not in _NO_NAMES and w != "of"]
        if words and not all(w.lower() in NUMBER_WORDS for _, w in words):
            yield _name(" ".join(w for _, w in words), words[0][0], words[-1])


def _name(
    text: str, start: int, last: tuple[int, str] | None = None, *, opening: bool = False
) -> Claim:
    """A name, with its words as further keys."""
    said = bare(text)
    end = last[0] + len(last[1]) if last else start + len(text)
    return Claim(Kind.NAME, said, start, end, frozenset({said, *said.split(" ")}), opening=opening)


def _unknown(word: str) -> bool:
    plain_word = word.lower()
    known = plain_word in STOP or plain_word in _INTERJECTIONS
    return not known and stem(plain_word) not in rarity()


def _bound(text: str, start: int, end: int) -> str:
    """Whether a number is given as the least or the most there may be."""
    before = text[max(0, start - 28) : start]
    if _HIGH.search(before) or _HIGH_AFTER.match(text, end):
        return "high"
    if _LOW_AFTER.match(text, end):
        return "low"
    if _LOW.search(before) and not _TO.match(text, end):
        return "low"
    return ""

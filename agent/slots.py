"""Finds a skill's arguments in what a customer wrote, by the parameters' schema.

What fits the parameter that was asked for is taken first; the others take what is left, so that
one number never fills two slots. Knows nothing of conversations.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from rapidfuzz.distance import OSA

from .arguments import EMAIL, Parameter
from .dates import find_day

__all__ = ["arguments_in", "is_no", "is_stop", "is_yes"]

MAX_READ = 2000
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:[.,]\d+)?(?!\d)")
_CJK = "一-鿿"
_COUNTS = {
    word: number
    for words in (
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        "一二三四五六七八九十",
    )
    for number, word in enumerate(words, start=1)
} | {"两": 2}
_YES = re.compile(
    "y|ye[sp]|yeah|yup|sure|ok|okay|correct|confirm(ed)?|exactly|right|thats? (is )?right|"
    "go ahead|do it|do so|of course|是的?|好的?|可以|确认|对的?|行|没问题|嗯+"
)
_NO = re.compile(
    "no?|nope|nah|dont|do not|(id )?rather not|not now|不|不是|不要|不行|不对|不可以|否|别"
)
_STOP = re.compile(
    "((ok(ay)?|oh|well|actually|no|sorry) )*(never ?mind( that)?|cancel( (it|that|this))?|stop|"
    "forget (about )?(it|that)|leave it|drop it|skip it|quit|exit|dont bother|no thanks?( you)?|"
    "thats all|bye|goodbye|bye bye)|"
    "[那好]?(算了吧?|取消|不用了|不要了|不必了|不查了|别查了|没事了|停止?|再见|拜拜)"
)
_POLITE = re.compile(r"\b(please|thanks|thank you)\b|请|谢谢")


@dataclass(frozen=True, slots=True)
class _Hit:
    value: object
    start: int
    end: int


def arguments_in(
    text: str, parameters: Sequence[Parameter], asked: Collection[str], now: datetime
) -> dict[str, object]:
    """The arguments a message holds; `asked` are the parameters it answers.

    `now` is aware of its zone; days are counted from it in the zone of their parameter.
    """
    free = unicodedata.normalize("NFKC", text)[:MAX_READ]
    values: dict[str, object] = {}
    for parameter in sorted(parameters, key=lambda p: (p.name not in asked, _vague(p))):
        wanted = parameter.name in asked
        for hit in _hits(parameter, free, now, asked=wanted):
            if not parameter.problem(hit.value):
                values[parameter.name] = hit.value
                free = free[: hit.start] + "\n" * (hit.end - hit.start) + free[hit.end :]
                break
    return values


def plain(text: str) -> str:
    """The words of a message in lower case, without marks and politeness."""
    bare = re.sub(r"[^\w\s]", "", unicodedata.normalize("NFKC", text[:MAX_READ]).lower())
    return " ".join(_POLITE.sub(" ", bare).split()) or " ".join(bare.split())


def is_yes(text: str) -> bool:
    """Whether a message is a clear yes and nothing else."""
    words = plain(text)
    return bool(_YES.fullmatch(words) or _YES.fullmatch(words.removeprefix("yes ")))


def is_no(text: str) -> bool:
    """Whether a message is a no and nothing else."""
    words = plain(text)
    return bool(_NO.fullmatch(words) or _NO.fullmatch(words.removeprefix("no ")))


def is_stop(text: str) -> bool:
    """Whether a message wants to hear no more of it."""
    words = " ".join(re.sub(r"[^\w\s]", "", text[:MAX_READ].lower()).split())
    return bool(_STOP.fullmatch(words) or _STOP.fullmatch(plain(text)))


def _vague(parameter: Parameter) -> bool:
    """Whether nearly anything would fit: such take only what the others leave."""
    return parameter.kind in {"integer", "number"} and "enum" not in parameter.schema


def _hits(parameter: Parameter, text: str, now: datetime, *, asked: bool) -> Iterator[_Hit]:
    """What in a text could be the parameter's value, likeliest first."""
    schema = parameter.schema
    if "enum" in schema:
        yield from _choices(text, schema["enum"], schema.get("x-words", {}))
    elif parameter.kind == "boolean":
        yield from _answers(text) if asked else ()
    elif parameter.kind in {"integer", "number"}:
        yield from _numbers(text, whole=parameter.kind == "integer", asked=asked)
    elif schema.get("format") == "date":
        zone = schema.get("x-timezone")
        day = find_day(text, now.astimezone(ZoneInfo(zone) if zone else None).date())
        if day is not None:
            yield _Hit(day.date.isoformat(), day.start, day.end)
    elif "pattern" in schema or schema.get("format") == "email":
        yield from _matching(text, schema.get("pattern", EMAIL))
    elif asked and text.strip():
        yield _Hit(text.strip(), 0, len(text))


def _matching(text: str, pattern: str) -> Iterator[_Hit]:
    """What matches a pattern and stands apart, as written, in capitals, in small letters."""
    core = pattern.removeprefix("^")
    core = core if core.endswith("\\$") else core.removesuffix("$")
    apart = rf"(?<![A-Za-z0-9_])(?:{core})(?![A-Za-z0-9_])"
    for found in re.finditer(apart, text, re.IGNORECASE):
        for value in dict.fromkeys((found[0], found[0].upper(), found[0].lower())):
            if value and re.search(pattern, value):
                yield _Hit(value, found.start(), found.end())


def _choices(
    text: str, values: Sequence[object], words: Mapping[str, Sequence[str]]
) -> Iterator[_Hit]:
    """Values of a list, by their own name or another word for them; then with typing mistakes."""
    names = [(name, v) for v in values for name in (str(v), *words.get(str(v), ()))]
    names.sort(key=lambda pair: -len(pair[0]))
    for name, value in names:
        head, tail = (r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])") if name.isascii() else ("", "")
        spaced = re.escape(name).replace("_", "[ _-]").replace(r"\-", "[ _-]")
        for found in re.finditer(head + spaced + tail, text, re.IGNORECASE):
            yield _Hit(value, found.start(), found.end())
    for found in re.finditer(r"[A-Za-z]{4,}", text):
        for name, value in names:
            if _alike(found[0].lower(), name.lower()):
                yield _Hit(value, found.start(), found.end())


def _alike(word: str, name: str) -> bool:
    allowed = 1 if len(name) <= 5 else 2
    return (
        len(name) >= 4
        and word[0] == name[0]
        and OSA.distance(word, name, score_cutoff=allowed) <= allowed
    )


def _answers(text: str) -> Iterator[_Hit]:
    if is_yes(text) or is_no(text):
        yield _Hit(is_yes(text), 0, len(text))


def _numbers(text: str, *, whole: bool, asked: bool) -> Iterator[_Hit]:
    """Numbers in digits, or one to ten in words; where not asked for, only a lone number."""
    hits = [
        _Hit(_number(found[0], whole=whole), found.start(), found.end())
        for found in _NUMBER.finditer(text)
    ]
    if asked and not hits:
        hits = [
            _Hit(_COUNTS[found[0].lower()], found.start(), found.end())
            for found in re.finditer(rf"[A-Za-z]+|[{_CJK}]", text)
            if found[0].lower() in _COUNTS
        ]
    if asked or len(hits) == 1:
        yield from (hit for hit in hits if hit.value is not None)


def _number(text: str, *, whole: bool) -> int | float | None:
    """`1,299` is a thousand, `2,5` a decimal; None where a whole number is wanted and it is not."""
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    value = float(text.replace(",", "."))
    if value.is_integer() and abs(value) < 1e15:
        return int(value)
    return None if whole else value

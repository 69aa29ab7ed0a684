"""Numbers of a text with what they measure: money, durations, weights, shares, counts.

Number words are numbers, and units of one kind are compared in one measure: 24 hours are a day.
Knows nothing of sources.
"""

import re
from dataclasses import dataclass, replace

__all__ = ["MONTHS", "NUMBER_WORDS", "Quantity", "number_of", "quantities"]

_CURRENCIES = {
    "GBP": "£|gbp|pounds?(?: sterling)?|quid|英镑|镑",
    "EUR": "€|eur|euros?|欧元|欧",
    "USD": r"\$|us\$|usd|dollars?|us dollars?|美元",
    "CNY": "¥|cny|rmb|yuan|元",
    "CHF": "chf|francs?",
    "pence": "p|pence|pennies|penny",
    "cent": "cents?",
}
_MEASURES: dict[str, tuple[tuple[float, str], ...]] = {
    "minute": (
        (1, "minutes?|mins?|分钟"),
        (60, "hours?|hrs?|h|小时"),
        (1440, "days?|天|日"),
        (10080, "weeks?|周|星期"),
        (20160, "fortnights?"),
    ),
    "second": ((1, "seconds|secs?|秒"),),
    "working day": ((1, "working days?|business days?|workdays?|weekdays|个工作日|工作日"),),
    "month": ((1, "months?|个月|月"), (12, "years?|yrs?|年")),
    "night": ((1, "nights?|晚"),),
    "gram": (
        (1, "g|grams?|克"),
        (1000, "kg|kgs|kilos?|kilograms?|公斤|千克"),
        (1e6, "tonnes?|tons?"),
    ),
    "pound weight": ((1, "lbs?"),),
    "metre": (
        (0.001, "mm|millimet(?:re|er)s?|毫米"),
        (0.01, "cm|centimet(?:re|er)s?|厘米"),
        (1, "m|met(?:re|er)s?|米"),
        (1000, "km|kms|kilomet(?:re|er)s?|公里"),
    ),
    "mile": ((1, "miles?"),),
    "foot": ((1, "ft|foot|feet"),),
    "inch": ((1, "inch|inches"),),
    "litre": ((0.001, "ml|millilit(?:re|er)s?"), (1, "l|lit(?:re|er)s?|升")),
    "degree": ((1, "°c|° c|℃|degrees? celsius|degrees? c|degrees?|度"),),
    "percent": ((1, "%|percent|per cent"),),
    "lumen": ((1, "lumens?|lm"),),
    "byte": ((1, "mb|megabytes?"), (1000, "gb|gigabytes?"), (1e6, "tb|terabytes?")),
    "mph": ((1, "mph"),),
    "bit": ((1, "mbps|mbit/s"),),
    "watt": ((1, "w|watts?"), (1000, "kw")),
    "volt": ((1, "v|volts?"),),
}
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = {
    word: (place + 2) * 10
    for place, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())
}
NUMBER_WORDS = frozenset([*_ONES, *_TENS, "hundred", "thousand", "dozen", "half", "quarter"])
MONTHS = tuple(
    "january february march april may june july august september october november december".split()
)
_FRACTIONS = {"half": 0.5, "quarter": 0.25, "third": 1 / 3, "two thirds": 2 / 3}
_SMALL = "|".join(sorted([*_ONES, *_TENS], key=len, reverse=True))
_WORDED = (
    rf"(?:(?:{'|'.join(_TENS)})[- ](?:{'|'.join(_ONES[1:10])})|{_SMALL}|an?(?= (?:hundred|thousand"
    rf"|dozen)))(?:[ -](?:hundred|thousand|dozen)(?:(?: and)? (?:{_SMALL}))?)?"
)
_DIGITS = r"\d+(?:[.,]\d+)*"
_BETWEEN = (
    r"(?:(?:more|extra|further|additional|full|whole|consecutive|calendar|equal|short|clear|long|"
    r"straight)\s+)*"
)


def _alternatives() -> tuple[str, dict[str, tuple[str, float]]]:
    """One pattern of all units, longest first, and what each way of writing one means."""
    patterns = [(pattern, (name, 1.0)) for name, pattern in _CURRENCIES.items()]
    for name, steps in _MEASURES.items():
        patterns.extend((pattern, (name, factor)) for factor, pattern in steps)
    return "|".join(pattern for pattern, _ in patterns), dict(patterns)


_UNIT, _MEANING = _alternatives()
_UNITS = [(re.compile(pattern, re.IGNORECASE), meaning) for pattern, meaning in _MEANING.items()]
_SIGNS = r"[£€$¥]|\b(?:GBP|EUR|USD|CHF|CNY)\b"
_QUANTITY = re.compile(
    rf"(?P<sign>{_SIGNS})?\s?(?P<number>(?:(?<![A-Za-z0-9_.,])|(?<=[£€$¥]))(?:[-−](?=\d)|\+(?=\d\b))?"
    rf"{_DIGITS}|\b(?:{_WORDED})\b)"
    rf"(?P<half>\s+and\s+a\s+half)?(?:\s*[-‑]?\s*{_BETWEEN}(?P<unit>{_UNIT})(?![A-Za-z0-9_°]))?",
    re.IGNORECASE,
)
_HALF = re.compile(
    rf"\b(?P<word>half|(?:a )?quarter|(?:a )?third|two thirds)\b"
    rf"(?:[ -]+(?:of )?(?:an? )?(?P<unit>{_UNIT})(?!\w))?",
    re.IGNORECASE,
)
_ARTICLE = re.compile(
    rf"(?P<before>\b(?:within|after|for|in|about|least|most|than|another|per)\s+)?"
    rf"\b(?P<number>an?|another|one)[ -]{_BETWEEN}(?P<unit>{_UNIT})(?!\w)",
    re.IGNORECASE,
)
_LIST = re.compile(r"\s*(?:to|-|–|—|or|and|x|×|by|,)\s*", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:to|-|–|—)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written from `start` to `end`; `unit` is empty where it counts things.

    `value` is in the measure of `unit`, `factor` times what is written. `implied` ones stand as
    "an hour": a source says them, a reply need not mean them. `ends` is `first` or `last` in a
    range such as 3 to 5, which `span` names.
    """

    start: int
    end: int
    text: str
    value: float
    unit: str = ""
    factor: float = 1.0
    implied: bool = False
    ends: str = ""
    span: str = ""

    @property
    def key(self) -> str:
        """What is compared."""
        return f"{self.unit}:{self.value:.6g}"


def number_of(text: str) -> float | None:
    """The value of a number in digits or words; None where it is none (a version, a date)."""
    plain = text.lower().replace("−", "-").strip()
    digits = plain.lstrip("+-")
    sign = -1 if plain.startswith("-") else 1
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits):
        return sign * float(digits.replace(",", ""))
    if re.fullmatch(r"\d+(?:[.,]\d+)?", digits):
        return sign * float(digits.replace(",", "."))
    return None if plain[:1].isdigit() else _worded(plain)


def _worded(text: str) -> float | None:
    total, last = 0.0, 0.0
    for word in re.split(r"[ -]", text):
        if word in _ONES or word in _TENS:
            last += _TENS.get(word, _ONES.index(word) if word in _ONES else 0)
        elif word in {"hundred", "thousand", "dozen"}:
            total += max(last, 1) * {"hundred": 100, "thousand": 1000, "dozen": 12}[word]
            last = 0.0
        elif word not in {"a", "an", "and"}:
            return None
    return total + last


def quantities(text: str) -> list[Quantity]:
    """The quantities of a text in their order; a range's first number takes the second's unit."""
    found = _plain_quantities(text)
    taken = {place for one in found for place in range(one.start, one.end)}
    for match in _HALF.finditer(text):
        if not taken & set(range(*match.span())):
            taken |= set(range(*match.span()))
            value = _FRACTIONS[re.sub(r"^a ", "", match["word"].lower())]
            found.append(_made(match, value))
    for match in _ARTICLE.finditer(text):
        if not taken & set(range(*match.span("unit"))):
            one = replace(_made(match, 1.0), implied=not match["before"])
            begin = match.start("number")
            found.append(replace(one, start=begin, text=text[begin : one.end]))
    found.sort(key=lambda one: one.start)
    return _with_ranges(found, text)


def _plain_quantities(text: str) -> list[Quantity]:
    found = []
    for match in _QUANTITY.finditer(text):
        value = number_of(match["number"])
        if value is None or (match["number"].lower() == "one" and not match["unit"]):
            continue
        if match["half"]:
            value += 0.5
        unit, factor = _meaning(match["sign"] or match["unit"] or "")
        start = match.start("sign") if match["sign"] else match.start("number")
        end = match.end() if match["unit"] else match.end("half" if match["half"] else "number")
        found.append(Quantity(start, end, text[start:end], value * factor, unit, factor))
    return found


def _made(match: re.Match[str], value: float) -> Quantity:
    unit, factor = _meaning(match["unit"] or "")
    return Quantity(*match.span(), match.group(), value * factor, unit, factor)


def _meaning(unit: str) -> tuple[str, float]:
    """The measure a unit belongs to and how much of it one is."""
    plain = " ".join(unit.lower().split())
    for pattern, (name, factor) in _UNITS if plain else ():
        if pattern.fullmatch(plain):
            return ("GBP", 0.01) if name == "pence" else (name, factor)
    return "", 1.0


def _with_ranges(found: list[Quantity], text: str) -> list[Quantity]:
    for place in range(len(found) - 2, -1, -1):
        one, after = found[place], found[place + 1]
        between = text[one.end : after.start]
        if not one.unit and after.unit and _LIST.fullmatch(between):
            value = one.value * after.factor
            one = replace(one, value=value, unit=after.unit, factor=after.factor)
        if one.unit == after.unit and _is_range(text[: one.start], between):
            span = f"{one.key}-{after.key}"
            one = replace(one, ends="first", span=span)
            found[place + 1] = replace(after, ends="last", span=span)
        found[place] = one
    return found


def _is_range(before: str, between: str) -> bool:
    if between.strip() == "and":
        return before.rstrip().endswith("between")
    return bool(_RANGE.fullmatch(between))

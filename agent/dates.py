"""Finds a day in a customer's words, English or Chinese: `on Sunday`, `24 December`, `明天`.

Knows nothing of opening hours or of skills. A day without a year is the next one to come.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from rapidfuzz.distance import OSA

__all__ = ["MONTHS", "WEEKDAYS", "Day", "find_day"]

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_ZH_DAYS = "一二三四五六"
_DAY_NAMES = "mon|tues?|wed|thu(?:rs?)?|fri|sat|sun"
_MONTH_NAMES = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in MONTHS) + "|sept"


@dataclass(frozen=True, slots=True)
class Day:
    """A day with the place of the words that name it."""

    date: date
    start: int
    end: int


def find_day(text: str, today: date) -> Day | None:
    """The first form of a day that the text holds; None where there is none."""
    for pattern, read in _FORMS:
        for found in pattern.finditer(text):
            day = read(found, today)
            if day is not None:
                return Day(day, found.start(), found.end())
    return _misspelt(text, today)


def _made(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _coming(year: str | None, month: int, day: int, today: date) -> date | None:
    """The day of that year, else the next one that is not past."""
    if year:
        return _made(int(year) + (2000 if len(year) == 2 else 0), month, day)
    for candidate in range(today.year, today.year + 9):
        found = _made(candidate, month, day)
        if found is not None and found >= today:
            return found
    return None


def _full(found: re.Match[str], today: date) -> date | None:
    del today
    return _made(*(int(part) for part in found.groups()))


def _named(found: re.Match[str], today: date) -> date | None:
    """`24 December 2025`, `December 24th`."""
    name = (found["month"] or found["month2"])[:3].lower()
    month = next(n for n, month in enumerate(MONTHS, start=1) if month.startswith(name))
    number = int(found["day"] or found["day2"])
    return _coming(found["year"] or found["year2"], month, number, today)


def _slashed(found: re.Match[str], today: date) -> date | None:
    """Day first; the other way round where only that is a date."""
    first, second, year = int(found[1]), int(found[2]), found[3]
    return _coming(year, second, first, today) or _coming(year, first, second, today)


def _chinese(found: re.Match[str], today: date) -> date | None:
    return _coming(found[1], int(found[2]), int(found[3]), today)


def _relative(found: re.Match[str], today: date) -> date | None:
    word = re.sub(r"\s+", " ", found.group().lower())
    days = {"day after tomorrow": 2, "tomorrow": 1, "后天": 2, "明天": 1, "明日": 1}
    return today + timedelta(days.get(word, 0))


def _weekday(found: re.Match[str], today: date) -> date | None:
    """The next day of that name, today included; `next` leaves today out."""
    number = next(n for n, name in enumerate(WEEKDAYS) if name.startswith(found[2][:2].lower()))
    ahead = (number - today.weekday()) % 7
    return today + timedelta(ahead or (7 if found[1] else 0))


def _zh_weekday(found: re.Match[str], today: date) -> date | None:
    """`下周一` is the Monday of the next week, Monday first."""
    number = 6 if found[2] in "日天" else _ZH_DAYS.index(found[2])
    if found[1]:
        return today + timedelta(7 - today.weekday() + number)
    return today + timedelta((number - today.weekday()) % 7)


def _misspelt(text: str, today: date) -> Day | None:
    """The name of a weekday with one mistake in it."""
    for found in re.finditer(r"[a-z]{5,10}", text, re.IGNORECASE):
        word = found.group().lower()
        for number, name in enumerate(WEEKDAYS):
            if word[0] == name[0] and OSA.distance(word, name, score_cutoff=1) <= 1:
                ahead = timedelta((number - today.weekday()) % 7)
                return Day(today + ahead, found.start(), found.end())
    return None


_Read = Callable[[re.Match[str], date], date | None]
_FORMS: tuple[tuple[re.Pattern[str], _Read], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), read)
    for pattern, read in (
        (r"(?<!\d)(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)", _full),
        (r"(?:(\d{4})年)?\s*(\d{1,2})月\s*(\d{1,2})[日号]?", _chinese),
        (
            rf"(?<!\w)(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{_MONTH_NAMES})"
            rf"(?:,?\s+(?P<year>\d{{4}}))?|(?P<month2>{_MONTH_NAMES})\.?\s+(?:the\s+)?"
            r"(?P<day2>\d{1,2})(?:st|nd|rd|th)?(?:,?\s+(?P<year2>\d{4}))?)(?!\w)",
            _named,
        ),
        (r"(?<![\d/.])(\d{1,2})/(\d{1,2})(?:/(\d{4}|\d{2}))?(?![\d/])", _slashed),
        (r"(?<![\d/.])(\d{1,2})\.(\d{1,2})\.(\d{4}|\d{2})(?![\d/])", _slashed),
        (
            r"(?<!\w)(?:day\s+after\s+tomorrow|tomorrow|today|tonight)(?!\w)|"
            r"后天|明天|明日|今天|今日|今晚",
            _relative,
        ),
        (rf"(?<!\w)(next\s+)?({'|'.join(WEEKDAYS)}|{_DAY_NAMES})s?(?!\w)", _weekday),
        (r"(下)?(?:周|星期|礼拜)([一二三四五六日天])", _zh_weekday),
    )
)

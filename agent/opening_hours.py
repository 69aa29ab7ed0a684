"""The skill that tells when a shop is open: now, on a day, and in a usual week.

Settings: `timezone`, `days` (`mon-fri = "9:00-17:30"`) and `holidays` (`"12-25" = "closed"`). A day
that is not named is closed. Knows nothing of the conversation.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .dates import MONTHS, WEEKDAYS
from .errors import ConfigError
from .skills import Risk, SkillResult, take

__all__ = ["OpeningHours"]

_SPAN = re.compile(r"(\d{1,2})(?::(\d\d))?\s*[-–]\s*(\d{1,2})(?::(\d\d))?")
_AHEAD, _SOON = 370, 30
_ZH = "一二三四五六日"
_MIDNIGHT = time(0)


@dataclass(frozen=True, slots=True)
class _Span:
    """From opening to closing time; one that closes before it opens goes on past midnight."""

    opens: time
    closes: time

    @property
    def text(self) -> str:
        """`9:00–17:30`."""
        return (
            f"{_clock(self.opens)}–{'24:00' if self.closes == _MIDNIGHT else _clock(self.closes)}"
        )

    def on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Its two moments when it begins on a day."""
        last = day if self.closes > self.opens else day + timedelta(1)
        return (
            datetime.combine(day, self.opens, zone).astimezone(UTC),
            datetime.combine(last, self.closes, zone).astimezone(UTC),
        )


Hours = tuple[_Span, ...]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class OpeningHours:
    """Tells opening hours; `now` is aware of its zone."""

    name = "opening_hours"
    description = "Tells whether we are open now or on a day, and the opening hours of the week."
    risk = Risk.READ
    confirm = False
    timeout = 5.0
    examples = (
        "Are you open now?",
        "What are your opening hours?",
        "When do you open and close today?",
        "Are you open on Sunday?",
        "Are you open on 24 December?",
        "Until what time are you open tomorrow?",
        "Are you closed on bank holidays?",
        "你们现在营业吗？",
        "营业时间是什么时候？",
        "周日开门吗？",
        "今天几点关门？",
        "12月24日营业吗？",
    )

    def __init__(self, settings: Mapping[str, Any], now: Callable[[], datetime] = _utc_now) -> None:
        told = take(settings, "timezone", "days", "holidays")
        self._now = now
        self._zone = _zone(told.get("timezone"))
        self._week = _week(told.get("days"))
        self._holidays = _holidays(told.get("holidays", {}))
        day = {"type": "string", "format": "date", "x-timezone": self._zone.key}
        self.parameters = {"type": "object", "properties": {"day": day}}

    def run(self, arguments: Mapping[str, Any]) -> SkillResult:
        """The hours of `day`, or whether it is open now with the hours of the week."""
        now = self._now().astimezone(self._zone)
        if "day" in arguments and (day := date.fromisoformat(arguments["day"])) != now.date():
            hours = self.hours(day)
            data = {"day": day.isoformat(), "hours": [span.text for span in hours]}
            return SkillResult(_day_en(day, hours), data, {"zh": _day_zh(day, hours)})
        until = self.open_until(now)
        opens = None if until else self._opens_after(now)
        week = list(self._usual())
        soon = list(self._exceptions(now.date()))
        return SkillResult(
            f"{_now_en(until, opens, now)}\n{_week_en(week)}{_soon_en(soon)}",
            {"open": until is not None, "until": until.isoformat() if until else None},
            {"zh": f"{_now_zh(until, opens, now)}\n{_week_zh(week)}{_soon_zh(soon)}"},
        )

    def hours(self, day: date) -> Hours:
        """When it is open on a day."""
        for key in (day.isoformat(), day.isoformat()[5:]):
            if key in self._holidays:
                return self._holidays[key]
        return self._week[day.weekday()]

    def open_until(self, now: datetime) -> datetime | None:
        """When it closes; None while it is closed."""
        for day in (now.date(), now.date() - timedelta(1)):
            for span in self.hours(day):
                opens, closes = span.on(day, self._zone)
                if opens <= now < closes:
                    return closes.astimezone(self._zone)
        return None

    def _opens_after(self, now: datetime) -> datetime | None:
        for ahead in range(_AHEAD):
            day = now.date() + timedelta(ahead)
            for span in self.hours(day):
                opens, _ = span.on(day, self._zone)
                if opens > now:
                    return opens.astimezone(self._zone)
        return None

    def _usual(self) -> Iterator[tuple[int, int, Hours]]:
        """Runs of weekdays with the same hours: first, last, hours."""
        for hours, run in groupby(range(7), key=lambda number: self._week[number]):
            days = list(run)
            yield days[0], days[-1], hours

    def _exceptions(self, today: date) -> Iterator[tuple[date, Hours]]:
        """Holidays of the coming weeks that differ from the usual day."""
        for ahead in range(_SOON):
            day = today + timedelta(ahead)
            if self.hours(day) != self._week[day.weekday()]:
                yield day, self.hours(day)


def _zone(name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name or ""))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f'timezone must be a name such as "Europe/London", not {name!r}'
        ) from None


def _week(told: object) -> list[Hours]:
    """Hours by weekday, Monday first, from keys such as `mon`, `Saturday` or `mon-fri`."""
    if not isinstance(told, Mapping) or not told:
        raise ConfigError('days must be a table such as { mon-fri = "9:00-17:30" }')
    week: list[Hours] = [()] * 7
    for key, text in told.items():
        first, _, last = str(key).lower().partition("-")
        start, end = _weekday(key, first), _weekday(key, last or first)
        for number in range(start, end + 1 + (7 if end < start else 0)):
            week[number % 7] = _hours(f"days.{key}", text)
    return week


def _weekday(key: object, name: str) -> int:
    for number, day in enumerate(WEEKDAYS):
        if len(name) >= 2 and day.startswith(name.strip()):
            return number
    raise ConfigError(f"days.{key} names no weekday; write mon, tue, ... or mon-fri")


def _holidays(told: object) -> dict[str, Hours]:
    """Hours by `2025-12-24`, or by `12-25` for every year."""
    if not isinstance(told, Mapping):
        raise ConfigError('holidays must be a table such as { "12-25" = "closed" }')
    found = {}
    for key, text in told.items():
        try:
            day = date.fromisoformat(key if len(key) == 10 else f"2024-{key}")
        except ValueError:
            raise ConfigError(
                f'holidays: {key!r} is no day; write "2025-12-24", or "12-25" for every year'
            ) from None
        found[day.isoformat()[10 - len(key) :]] = _hours(f"holidays.{key}", text)
    return found


def _hours(where: str, told: object) -> Hours:
    """`closed`, one span or a list of them."""
    if isinstance(told, str) and told.strip().lower() == "closed":
        return ()
    spans = []
    for text in told if isinstance(told, list) else [told]:
        found = _SPAN.fullmatch(str(text).strip())
        try:
            if found is None:
                raise ValueError
            hour, minute, hour2, minute2 = (int(part or 0) for part in found.groups())
            closes = _MIDNIGHT if (hour2, minute2) == (24, 0) else time(hour2, minute2)
            spans.append(_Span(time(hour, minute), closes))
        except ValueError:
            raise ConfigError(
                f'{where} must be "closed" or like "9:00-17:30", not {text!r}'
            ) from None
    return tuple(sorted(spans, key=lambda span: span.opens))


def _clock(moment: time | datetime) -> str:
    return f"{moment.hour}:{moment.minute:02}"


def _date_en(day: date) -> str:
    return (
        f"{WEEKDAYS[day.weekday()].title()}, {day.day} {MONTHS[day.month - 1].title()} {day.year}"
    )


def _date_zh(day: date) -> str:
    return f"{day.year}年{day.month}月{day.day}日（周{_ZH[day.weekday()]}）"


def _told_en(hours: Hours) -> str:
    return " and ".join(span.text for span in hours) or "closed"


def _told_zh(hours: Hours) -> str:
    return "、".join(span.text for span in hours) or "休息"


def _day_en(day: date, hours: Hours) -> str:
    told = f"open {_told_en(hours)}" if hours else "closed"
    return f"On {_date_en(day)} we are {told}."


def _day_zh(day: date, hours: Hours) -> str:
    return f"{_date_zh(day)}{'营业时间：' + _told_zh(hours) if hours else '休息，不营业'}。"


def _now_en(until: datetime | None, opens: datetime | None, now: datetime) -> str:
    if until:
        return f"Yes, we are open now, until {_clock(until)}."
    if opens is None:
        return "We are closed now."
    when = "today" if opens.date() == now.date() else f"on {_date_en(opens.date())}"
    return f"We are closed now. We open again {when} at {_clock(opens)}."


def _now_zh(until: datetime | None, opens: datetime | None, now: datetime) -> str:
    if until:
        return f"我们现在营业，营业到{_clock(until)}。"
    if opens is None:
        return "我们现在不营业。"
    when = "今天" if opens.date() == now.date() else _date_zh(opens.date())
    return f"我们现在不营业，{when}{_clock(opens)}开门。"


def _week_en(week: Sequence[tuple[int, int, Hours]]) -> str:
    def days(first: int, last: int) -> str:
        names = [WEEKDAYS[number].title() for number in dict.fromkeys((first, last))]
        return " to ".join(names)

    told = "; ".join(f"{days(first, last)} {_told_en(hours)}" for first, last, hours in week)
    return f"Opening hours: {told}."


def _week_zh(week: Sequence[tuple[int, int, Hours]]) -> str:
    def days(first: int, last: int) -> str:
        return "至".join(f"周{_ZH[number]}" for number in dict.fromkeys((first, last)))

    told = "；".join(f"{days(first, last)} {_told_zh(hours)}" for first, last, hours in week)
    return f"营业时间：{told}。"


def _soon_en(days: Sequence[tuple[date, Hours]]) -> str:
    told = "; ".join(f"{_date_en(day)} {_told_en(hours)}" for day, hours in days)
    return f"\nOther hours soon: {told}." if told else ""


def _soon_zh(days: Sequence[tuple[date, Hours]]) -> str:
    told = "；".join(f"{_date_zh(day)} {_told_zh(hours)}" for day, hours in days)
    return f"\n近期特殊安排：{told}。" if told else ""

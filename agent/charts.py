"""Charts that take their colours from the page, so that they are right in light and dark.

Bars and intervals are HTML, whose text keeps its size on a phone; what has two axes is SVG. Knows
nothing of what is measured; see `plots` for the same as PNG.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .page import safe

__all__ = ["Bar", "Interval", "Plane", "axis", "bars", "intervals", "number", "svg"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its name, its value, how that is told, its extremes; `tone` is `plain`, `base` (what
    we are compared with) or `result` (ours)."""

    name: str
    value: float
    told: str
    tone: str = "plain"
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its bounds, how it is told, and the limit it is held against; `tone` is
    `good`, `bad` or `open`."""

    name: str
    estimate: float
    low: float
    high: float
    told: str
    tone: str
    limit: float | None = None


def bars(rows: Sequence[Bar]) -> str:
    """Horizontal bars from zero, one a row; below them a thin line over the extremes that fit."""
    largest = max((row.value for row in rows), default=0.0)
    most = max(largest, min(1.25 * largest, max((row.high for row in rows), default=0.0))) or 1.0
    drawn = []
    for row in rows:
        low, high = (min(100.0, 100 * end / most) for end in (row.low, row.high))
        reach = f"<i class='reach' style='left:{low:.1f}%;width:{high - low:.1f}%'></i>"
        drawn.append(
            f"<div class='{row.tone}'><span>{safe(row.name)}</span><b>{safe(row.told)}</b>"
            f"<i class='track'><i class='bar' style='width:{100 * row.value / most:.1f}%'></i></i>"
            f"{reach if row.high > row.low else ''}</div>"
        )
    return f"<div class='bars'>{''.join(drawn)}</div>"


def intervals(rows: Sequence[Interval], origin: float, named: str, scale: str) -> str:
    """Estimates with their bounds over one scale; a line called `named` marks `origin`.

    `scale` says what its numbers are.
    """
    ends = (end for row in rows for end in (row.low, row.high, row.limit) if end is not None)
    low, high, steps = axis([origin, *ends])

    def at(value: float) -> str:
        return f"left:{100 * (value - low) / (high - low):.2f}%"

    def line(name: str, marks: str, told: str = "", kind: str = "") -> str:
        zero = f"<i class='zero' style='{at(origin)}'></i>" if kind != "ticks" else ""
        return (
            f"<div class='{kind}'><span>{safe(name)}</span><span class='scale'>{zero}{marks}</span>"
            f"<b>{safe(told)}</b></div>"
        )

    drawn = [line("", f"<i class='tick' style='{at(origin)}'>{safe(named)}</i>", kind="top")]
    for row in rows:
        limit = "" if row.limit is None else f"<i class='limit' style='{at(row.limit)}'></i>"
        wide = 100 * (row.high - row.low) / (high - low)
        marks = (
            f"<i class='span' style='{at(row.low)};width:{wide:.2f}%'></i>{limit}"
            f"<i class='mark' style='{at(row.estimate)}'></i>"
        )
        drawn.append(line(row.name, marks, row.told, row.tone))
    ticks = (f"<i class='tick' style='{at(step)}'>{number(step)}</i>" for step in steps)
    drawn.append(line(scale, "".join(ticks), kind="ticks"))
    return f"<div class='intervals'>{''.join(drawn)}</div>"


@dataclass(frozen=True, slots=True)
class Plane:
    """A drawing with two axes: the steps of x and of y, in order, from end to end; `right` is left
    free for names behind the last x."""

    xs: Sequence[float]
    ys: Sequence[float]
    right: float = 16
    logarithmic: bool = False
    width: float = 460
    height: float = 300

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value lies, in pixels from the top left."""
        first, last, here = (self._scaled(value) for value in (self.xs[0], self.xs[-1], x))
        up = (y - self.ys[0]) / max(self.ys[-1] - self.ys[0], 1e-9)
        across = (here - first) / max(last - first, 1e-9)
        wide, high = self.width - _LEFT - self.right, self.height - _BOTTOM - _TOP
        return _LEFT + across * wide, self.height - _BOTTOM - up * high

    def drawn(self, x_label: str, y_label: str) -> str:
        """Lines across at each y, the numbers of both axes that have room, and their labels."""
        edge, base = self.width - self.right, self.height - _BOTTOM
        parts = []
        for step in self.ys:
            y = self.at(self.xs[0], step)[1]
            parts.append(
                f"<line class='grid' x1='{_LEFT}' x2='{edge}' y1='{y:.1f}' y2='{y:.1f}'/>"
                f"<text class='tick' x='{_LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>"
                f"{number(step)}</text>"
            )
        before = -math.inf
        for step in self.xs:
            x, half = self.at(step, 0)[0], 3.6 * len(f"{number(step)}") + 3
            if x - half >= before:
                before = x + half
                parts.append(
                    f"<text class='tick' x='{x:.1f}' y='{base + 17}' text-anchor='middle'>"
                    f"{number(step)}</text>"
                )
        return (
            f"{''.join(parts)}<text class='axis' x='{(_LEFT + edge) / 2:.0f}' "
            f"y='{self.height - 6}' text-anchor='middle'>{safe(x_label)}</text>"
            f"<text class='axis' x='0' y='11'>{safe(y_label)}</text>"
        )

    def _scaled(self, x: float) -> float:
        return math.log10(max(x, 1e-9)) if self.logarithmic else x


_LEFT, _TOP, _BOTTOM = 46, 30, 40
"""Room around what a plane shows, for numbers and labels."""


def axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Round ends and steps around values; none below zero where no value is."""
    low, high = min(values), max(values)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    low, high = (max(0.0, low - room) if low >= 0 else low - room), high + room
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    steps = [round(n * step, 10) for n in range(first, last + 1)]
    return steps[0], steps[-1], steps


def number(value: float) -> str:
    """A round number as a scale shows it."""
    return f"{value:,.10g}".replace("-", "−")


def svg(title: str, width: float, height: float, body: str, kind: str = "", style: str = "") -> str:
    """A drawing that scales with its box."""
    return (
        f"<svg class='chart {kind}' viewBox='0 0 {width:.0f} {height:.0f}' role='img' "
        f"style='{style}' aria-label='{safe(title)}'>{body}</svg>"
    )

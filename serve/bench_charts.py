"""Charts as SVG that takes its colours from the page, so that it is right in light and dark.

Knows nothing of what is measured; see `bench_plots` for the same as PNG.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Line", "bars", "lines", "ratios"]

_BAR = 460
"""Width of a bar of the full value."""


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
class Line:
    """Points (x, y) that belong together; x may be logarithmic."""

    name: str
    points: tuple[tuple[float, float], ...]
    tone: str = "plain"


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from zero, one a row, with whiskers to the extremes that fit."""
    most = 1.25 * max((row.value for row in rows), default=0) or 1
    line = 30
    parts = []
    for place, row in enumerate(rows):
        y = place * line
        width = max(1.0, _BAR * row.value / most)
        parts.append(
            f"<text class='name' x='0' y='{y + 10}'>{_safe(row.name)}</text>"
            f"<text class='value' x='{_BAR}' y='{y + 10}' text-anchor='end'>"
            f"{_safe(row.told)}</text>"
            f"<rect class='track' x='0' y='{y + 15}' width='{_BAR}' height='7' rx='3.5'/>"
            f"<rect class='bar {row.tone}' x='0' y='{y + 15}' width='{width:.1f}' height='7' "
            "rx='3.5'/>"
        )
        if row.high > row.low:
            low, high = (min(_BAR, _BAR * end / most) for end in (row.low, row.high))
            parts.append(
                f"<line class='whisker' x1='{low:.1f}' x2='{high:.1f}' "
                f"y1='{y + 18.5}' y2='{y + 18.5}'/>"
            )
    return _svg(title, _BAR, max(1, line * len(rows) - 4), "".join(parts), "bars")


def ratios(title: str, rows: Sequence[tuple[str, float, float, float, float]]) -> str:
    """Ratios with their intervals beside the bar: name, value, low, high, bar (0: none)."""
    width, left, right, row_height, top = 640, 250, 80, 34, 22
    most = 1.08 * max(1.0, *(max(row[3], row[4]) for row in rows)) if rows else 1.0

    def at(value: float) -> float:
        return left + value / most * (width - left - right)

    height = top + row_height * len(rows) + 6
    one = at(1)
    parts = [
        f"<line class='zero' x1='{one:.1f}' x2='{one:.1f}' y1='{top - 6}' y2='{height - 6}'/>"
        f"<text class='tick' x='{one:.1f}' y='{top - 10}' text-anchor='middle'>as fast</text>"
    ]
    for place, (name, value, low, high, bar) in enumerate(rows):
        y = top + place * row_height + row_height / 2
        tone = "good" if low >= (bar or 1) else "bad"
        limit = (
            f"<line class='limit' x1='{at(bar):.1f}' x2='{at(bar):.1f}' "
            f"y1='{y - 11:.1f}' y2='{y + 11:.1f}'/>"
            if bar
            else ""
        )
        parts.append(
            f"<text class='name' x='0' y='{y + 4:.1f}'>{_safe(name)}</text>{limit}"
            f"<line class='span {tone}' x1='{at(low):.1f}' x2='{at(high):.1f}' "
            f"y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<circle class='mark {tone}' cx='{at(value):.1f}' cy='{y:.1f}' r='5.5'/>"
            f"<text class='value' x='{width}' y='{y + 4:.1f}' text-anchor='end'>{value:.2f}×</text>"
        )
    return _svg(title, width, height, "".join(parts), "ratios")


def lines(
    title: str, rows: Sequence[Line], x_label: str, y_label: str, *, logarithmic: bool = False
) -> str:
    """Curves over one axis."""
    width, height, left, bottom, top, right = 640, 320, 64, 48, 16, 130
    points = [point for row in rows for point in row.points]
    if not points:
        return ""
    scale = math.log10 if logarithmic else float
    xs = [scale(max(x, 1e-9)) for x, _ in points]
    low, high = min(xs), max(xs)
    most = 1.1 * max(y for _, y in points) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        share = (scale(max(x, 1e-9)) - low) / max(high - low, 1e-9)
        return (
            left + share * (width - left - right),
            height - bottom - y / most * (height - bottom - top),
        )

    parts = [_grid(at, sorted({x for x, _ in points}), most, left, width - right, height - bottom)]
    for row in rows:
        places = [at(x, y) for x, y in row.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f"<path class='line {row.tone}' d='{path}'/>")
        parts += [
            f"<circle class='dot {row.tone}' cx='{x:.1f}' cy='{y:.1f}' r='4'/>" for x, y in places
        ]
        x, y = places[-1]
        parts.append(
            f"<text class='label' x='{x + 9:.1f}' y='{y + 4:.1f}'>{_safe(row.name)}</text>"
        )
    parts.append(
        f"<text class='axis' x='{(left + width - right) / 2:.0f}' y='{height - 8}' "
        f"text-anchor='middle'>{_safe(x_label)}</text>"
        f"<text class='axis' transform='translate(14 {(height - bottom) / 2:.0f}) rotate(-90)' "
        f"text-anchor='middle'>{_safe(y_label)}</text>"
    )
    return _svg(title, width, height, "".join(parts), "lines")


def _grid(
    at: Callable[[float, float], tuple[float, float]],
    xs: Sequence[float],
    most: float,
    left: float,
    right: float,
    base: float,
) -> str:
    parts = []
    for step in range(5):
        value = most * step / 4
        y = at(xs[0], value)[1]
        parts.append(
            f"<line class='grid' x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<text class='tick' x='{left - 8}' y='{y + 4:.1f}' text-anchor='end'>"
            f"{value:.3g}</text>"
        )
    shown = xs if len(xs) <= 8 else [*xs[:: max(1, len(xs) // 7)]]
    parts += [
        f"<text class='tick' x='{at(x, 0)[0]:.1f}' y='{base + 18:.1f}' text-anchor='middle'>"
        f"{x:,.0f}</text>"
        for x in shown
    ]
    return "".join(parts)


def _svg(title: str, width: float, height: float, body: str, kind: str) -> str:
    return (
        f"<svg class='chart {kind}' viewBox='0 0 {width:.0f} {height:.0f}' role='img' "
        f"aria-label='{_safe(title)}'>{body}</svg>"
    )


def _safe(text: str) -> str:
    return html.escape(text, quote=True)

"""Charts as SVG that takes its colours from the page, so that it is right in light and dark.

Knows nothing of models; see `plots` for the same as PNG.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Interval", "Point", "bars", "heat", "intervals", "scatter"]


_BAR = 236
"""Width of a bar of the full value."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its name, its value and how that is told; `tone` is `plain`, `base` or `result`."""

    name: str
    value: float
    told: str
    tone: str = "plain"


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a scatter; `front` ones are joined by a line."""

    name: str
    x: float
    y: float
    tone: str = "plain"
    front: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """A loss in points: estimate, its bounds, and whether it stays inside `limit`."""

    name: str
    estimate: float
    low: float
    high: float
    limit: float
    told: str


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from zero, one a row."""
    most = max((row.value for row in rows), default=0) or 1
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
    return _svg(title, _BAR, line * len(rows) - 4, "".join(parts), "bars")


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Points over two axes; the front as a stair."""
    width, height, left, bottom, top, right = 640, 380, 56, 48, 14, 20
    low_x, high_x, steps_x = _axis([p.x for p in points])
    low_y, high_y, steps_y = _axis([p.y for p in points])

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - low_x) / (high_x - low_x) * (width - left - right),
            height - bottom - (y - low_y) / (high_y - low_y) * (height - bottom - top),
        )

    parts = []
    for step in steps_y:
        y = at(low_x, step)[1]
        parts.append(
            f"<line class='grid' x1='{left}' x2='{width - right}' y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<text class='tick' x='{left - 8}' y='{y + 4:.1f}' text-anchor='end'>{step:g}</text>"
        )
    for step in steps_x:
        x = at(step, low_y)[0]
        parts.append(
            f"<text class='tick' x='{x:.1f}' y='{height - bottom + 18}' "
            f"text-anchor='middle'>{step:g}</text>"
        )
    parts.append(_front([at(p.x, p.y) for p in sorted(points, key=lambda p: p.x) if p.front]))
    parts += _named(points, [at(p.x, p.y) for p in points], width - right)
    parts.append(
        f"<text class='axis' x='{(left + width - right) / 2:.0f}' y='{height - 8}' "
        f"text-anchor='middle'>{_safe(x_label)}</text>"
        f"<text class='axis' transform='translate(14 {(height - bottom) / 2:.0f}) rotate(-90)' "
        f"text-anchor='middle'>{_safe(y_label)}</text>"
    )
    return _svg(title, width, height, "".join(parts), "scatter")


def _front(places: Sequence[tuple[float, float]]) -> str:
    if len(places) < 2:
        return ""
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
    return f"<path class='front' d='{path}'/>"


def _named(
    points: Sequence[Point], places: Sequence[tuple[float, float]], edge: float
) -> list[str]:
    """Dots with their names; a name that would lie on another is moved up or down."""
    taken: list[tuple[float, float, float]] = []
    dots, parts = [], []
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda pair: pair[1][1]):
        wide = 6.6 * len(point.name)
        left = x - 11 - wide if x + 11 + wide > edge else x + 11
        line = y - 6
        while any(abs(line - t) < 14 and left < b and a < left + wide for a, b, t in taken):
            line += 14
        taken.append((left, left + wide, line))
        radius = 6 if point.tone == "plain" else 8
        dots.append(f"<circle class='dot {point.tone}' cx='{x:.1f}' cy='{y:.1f}' r='{radius}'/>")
        parts.append(
            f"<text class='label' x='{left:.1f}' y='{line:.1f}'>{_safe(point.name)}</text>"
        )
    return parts + dots


def intervals(title: str, rows: Sequence[Interval]) -> str:
    """Losses with their bounds beside what is allowed."""
    width, left, right, line, top = 640, 190, 120, 34, 24
    ends = [0.0, *(v for row in rows for v in (row.low, row.high, row.limit))]
    low, high = min(ends), max(ends)
    low, high = low - 0.05 * (high - low), high + 0.08 * (high - low)

    def at(value: float) -> float:
        return left + (value - low) / max(high - low, 1e-9) * (width - left - right)

    height = top + line * len(rows) + 6
    zero = at(0)
    parts = [
        f"<line class='zero' x1='{zero:.1f}' x2='{zero:.1f}' y1='{top - 6}' y2='{height - 6}'/>"
        f"<text class='tick' x='{zero:.1f}' y='{top - 11}' text-anchor='middle'>no loss</text>"
    ]
    for place, row in enumerate(rows):
        y = top + place * line + line / 2
        tone = "good" if row.high < row.limit else "bad"
        parts.append(
            f"<text class='name' x='0' y='{y + 4:.1f}'>{_safe(row.name)}</text>"
            f"<line class='limit' x1='{at(row.limit):.1f}' x2='{at(row.limit):.1f}' "
            f"y1='{y - 11:.1f}' y2='{y + 11:.1f}'/>"
            f"<line class='span {tone}' x1='{at(row.low):.1f}' x2='{at(row.high):.1f}' "
            f"y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<circle class='mark {tone}' cx='{at(row.estimate):.1f}' cy='{y:.1f}' r='5.5'/>"
            f"<text class='value' x='{width}' y='{y + 4:.1f}' text-anchor='end'>"
            f"{_safe(row.told)}</text>"
        )
    return _svg(title, width, height, "".join(parts), "intervals")


def heat(title: str, rows: Mapping[str, Mapping[str, float]], most: float) -> str:
    """A table as cells, the redder the more was lost; `most` is the loss of the full colour."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    left, line, top = 172, 27, 26
    wide = min(96.0, max(22.0, 468 / max(1, len(columns))))
    width = left + wide * len(columns) + 2
    parts = [
        f"<text class='tick' x='{left + (n + 0.5) * wide:.1f}' y='{top - 9}' "
        f"text-anchor='middle'>{_safe(_short(name, int(wide / 6.4)))}</text>"
        for n, name in enumerate(columns)
    ]
    for place, (name, row) in enumerate(rows.items()):
        y = top + place * line
        parts.append(f"<text class='name' x='0' y='{y + 17}'>{_safe(_short(name, 25))}</text>")
        for n, column in enumerate(columns):
            parts.append(_cell(left + n * wide, y, wide, line, row.get(column), most, name, column))
    return _svg(title, width, top + line * len(rows) + 2, "".join(parts), "heat")


def _cell(
    x: float, y: float, wide: float, line: float, loss: float | None, most: float, *names: str
) -> str:
    box = f"x='{x + 1:.1f}' y='{y + 1:.1f}' width='{wide - 2:.1f}' height='{line - 2}' rx='4'"
    if loss is None:
        return f"<rect class='none' {box}/>"
    strength = min(1.0, abs(loss) / max(most, 1e-9))
    tone = "lost" if loss > 0 else "won"
    told = f"{loss:+.1f}" if wide >= 34 else ""
    strong = " strong" if strength > 0.55 else ""
    return (
        f"<g><title>{_safe(', '.join(names))}: {loss:+.2f} points lost</title>"
        f"<rect class='none' {box}/>"
        f"<rect class='{tone}' {box} fill-opacity='{strength:.2f}'/>"
        f"<text class='cell{strong}' x='{x + wide / 2:.1f}' y='{y + line / 2 + 4:.1f}' "
        f"text-anchor='middle'>{told}</text></g>"
    )


def _axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Round ends and steps around values."""
    low, high = min(values), max(values)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    low, high = (max(0.0, low - room) if low >= 0 else low - room), high + room
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    steps = [round(n * step, 10) for n in range(first, last + 1)]
    return steps[0], steps[-1], steps


def _svg(title: str, width: float, height: float, body: str, kind: str) -> str:
    return (
        f"<svg class='chart {kind}' viewBox='0 0 {width:.0f} {height:.0f}' role='img' "
        f"aria-label='{_safe(title)}'>{body}</svg>"
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)

"""Charts that only a compression has: what lies on the front, and where it hurt.

As SVG that takes its colours from the page. Knows nothing of models; see `plots` for PNG.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..agent.charts import Plane, axis, svg
from ..agent.page import safe, signed

__all__ = ["Point", "heat", "scatter"]

_LETTER, _LINE = 6.4, 12
"""Room of a letter and of a line of a name."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a scatter; `front` ones are joined by a line."""

    name: str
    x: float
    y: float
    tone: str = "plain"
    front: bool = False


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Points over two axes; the front as a stair."""
    plane = Plane(axis([p.x for p in points])[2], axis([p.y for p in points])[2])
    places = [plane.at(p.x, p.y) for p in points]
    stair = sorted(place for point, place in zip(points, places, strict=True) if point.front)
    body = plane.drawn(x_label, y_label) + _front(stair) + _named(points, places, plane.width)
    return svg(title, plane.width, plane.height, body, "scatter")


def _front(places: Sequence[tuple[float, float]]) -> str:
    if len(places) < 2:
        return ""
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
    return f"<path class='front' d='{path}'/>"


def _named(points: Sequence[Point], places: Sequence[tuple[float, float]], edge: float) -> str:
    """Dots with their names; a name lies on no dot and on no other name if it can."""
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    dots, names = [], []
    for point, (x, y) in zip(points, places, strict=True):
        room = list(_around(point, x, y, edge))
        box = next((one for one in room if not any(_meet(one, two) for two in taken)), room[0])
        taken.append(box)
        radius = 5 if point.tone == "plain" else 7
        dots.append(f"<circle class='dot {point.tone}' cx='{x:.1f}' cy='{y:.1f}' r='{radius}'/>")
        names.append(
            f"<text class='label' x='{box[0]:.1f}' y='{box[3] - 2:.1f}'>{safe(point.name)}</text>"
        )
    return "".join(names + dots)


def _around(point: Point, x: float, y: float, edge: float) -> Iterator[Box]:
    """Where a name may lie: above left first for the front, whose line runs below right of it."""
    wide = _LETTER * len(point.name)
    sides = (x - 6 - wide, x + 9) if point.front else (x + 9, x - 9 - wide)
    rows = (-17.0, -30.0, 5.0, 18.0, 31.0) if point.front else (5.0, -6.0, 18.0, -17.0, 31.0)
    boxes = [(left, y + row, left + wide, y + row + _LINE) for row in rows for left in sides]
    inside = [one for one in boxes if one[0] > 50 and one[2] < edge and one[1] > 16]
    yield from inside or boxes


def _meet(one: Box, two: Box) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def heat(title: str, rows: Mapping[str, Mapping[str, float]], most: float) -> str:
    """A table as cells, the redder the more was lost; `most` is the loss of the full colour."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    left, line, top = 16 + 6.6 * min(25, max(map(len, rows), default=0)), 27, 26
    wide = min(72.0, max(22.0, 468 / max(1, len(columns))))
    width = left + wide * len(columns) + 2
    parts = [
        f"<text class='tick' x='{left + (n + 0.5) * wide:.1f}' y='{top - 9}' "
        f"text-anchor='middle'>{safe(_short(name, int(wide / 6.4)))}</text>"
        for n, name in enumerate(columns)
    ]
    for place, (name, row) in enumerate(rows.items()):
        y = top + place * line
        parts.append(f"<text class='name' x='0' y='{y + 17}'>{safe(_short(name, 25))}</text>")
        for n, column in enumerate(columns):
            parts.append(_cell(left + n * wide, y, wide, line, row.get(column), most, name, column))
    kind = "heat broad" if width > 440 else "heat"
    style = f"min-width:{0.8 * width:.0f}px;max-width:{1.2 * width:.0f}px"
    return svg(title, width, top + line * len(rows) + 2, "".join(parts), kind, style)


def _cell(
    x: float, y: float, wide: float, line: float, loss: float | None, most: float, *names: str
) -> str:
    box = f"x='{x + 1:.1f}' y='{y + 1:.1f}' width='{wide - 2:.1f}' height='{line - 2}' rx='4'"
    if loss is None:
        return f"<rect class='none' {box}/>"
    strength = min(1.0, abs(loss) / max(most, 1e-9))
    tone = "lost" if loss > 0 else "won"
    told = signed(loss, 1) if wide >= 34 else ""
    strong = " strong" if strength > 0.85 else ""
    return (
        f"<g><title>{safe(', '.join(names))}: {signed(loss, 2)} points lost</title>"
        f"<rect class='none' {box}/>"
        f"<rect class='{tone}' {box} fill-opacity='{strength:.2f}'/>"
        f"<text class='cell{strong}' x='{x + wide / 2:.1f}' y='{y + line / 2 + 4:.1f}' "
        f"text-anchor='middle'>{told}</text></g>"
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"

"""Curves as SVG that takes its colours from the page.

Knows nothing of what is measured; see `bench_plots` for the same as PNG.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..agent.charts import Plane, axis, svg
from ..agent.page import safe

__all__ = ["Line", "lines"]


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) that belong together; x may be logarithmic."""

    name: str
    points: tuple[tuple[float, float], ...]
    tone: str = "plain"


def lines(
    title: str, rows: Sequence[Line], x_label: str, y_label: str, *, logarithmic: bool = False
) -> str:
    """Curves over one axis, from zero up; their names stand behind their ends."""
    points = [point for row in rows for point in row.points]
    if not points:
        return ""
    xs, ys = sorted({x for x, _ in points}), axis([0, *(y for _, y in points)])[2]
    plane = Plane(xs, ys, 20 + 6.6 * max(len(row.name) for row in rows), logarithmic)
    parts, below = [plane.drawn(x_label, y_label)], 0.0
    for row in sorted(rows, key=lambda row: -row.points[-1][1]):
        places = [plane.at(x, y) for x, y in row.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f"<path class='line {row.tone}' d='{path}'/>")
        parts += [
            f"<circle class='dot {row.tone}' cx='{x:.1f}' cy='{y:.1f}' r='4'/>" for x, y in places
        ]
        x, y = places[-1]
        below = max(y + 4, below + 14)  # a name lies on no other
        parts.append(f"<text class='label' x='{x + 9:.1f}' y='{below:.1f}'>{safe(row.name)}</text>")
    return svg(title, plane.width, plane.height, "".join(parts), "lines")

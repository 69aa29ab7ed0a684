"""The charts of `bench` and of growth as PNG. Needs matplotlib; writes nothing without.

Knows nothing of how anything was measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..agent.charts import Bar
from ..agent.plots import bar_chart, saved
from .bench_charts import Line
from .bench_page import tone
from .bench_report import SHOWN
from .outcome import Outcome
from .race import Figures

__all__ = ["curves", "draw"]

_CHARTED = ("first", "whole", "decode", "characters", "joules", "resident")


def draw(run: Outcome, path: Path) -> bool:
    """Write what stands side by side; whether there was something, and matplotlib."""
    if not run.sides:
        return False
    height = 1.2 + 0.33 * len(run.sides)
    return saved(path, (13, 2 * height), lambda figure: _sides(figure, run.sides))


def curves(charts: Sequence[tuple[str, str, str, bool, Sequence[Line]]], path: Path) -> bool:
    """Write curves, a chart each: title, labels of the axes, whether x is logarithmic, lines."""

    def into(figure: Any) -> None:
        columns = min(3, len(charts))
        rows = -(-len(charts) // columns)
        for place, (title, x_label, y_label, logarithmic, lines) in enumerate(charts, start=1):
            axes = figure.add_subplot(rows, columns, place)
            for line in lines:
                axes.plot(*zip(*line.points, strict=True), "o-", label=line.name)
            if logarithmic:
                axes.set_xscale("log")
            tallest = max((y for line in lines for _, y in line.points), default=0)
            axes.set_ylim(0, 1.15 * tallest or None)  # room for a legend above a flat line
            axes.set_title(title)
            axes.set_xlabel(x_label)
            axes.set_ylabel(y_label)
            axes.legend(frameon=False, fontsize=8)
            axes.grid(alpha=0.25)

    return bool(charts) and saved(path, (13, 3.6 * -(-len(charts) // 3)), into)


def _sides(figure: Any, sides: Sequence[Figures]) -> None:
    known = {one.key: one for one in SHOWN}
    for place, key in enumerate(_CHARTED):
        one = known[key]
        rows = [
            Bar(side.name, one.value(side) or 0, one.text(side) or "–", tone(side))
            for side in sides
        ]
        axes = figure.add_subplot(2, 3, place + 1)
        bar_chart(axes, rows, f"{one.name}, {one.unit}", 0.2, named=place % 3 == 0)

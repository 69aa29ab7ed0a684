"""The charts of `bench` and of growth as PNG. Needs matplotlib; writes nothing without.

Knows nothing of how anything was measured.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .bench_charts import Line
from .bench_page import tone
from .bench_report import SHOWN
from .outcome import Outcome
from .race import Figures

__all__ = ["curves", "draw"]

_GREEN, _BLUE, _GREY = "#047857", "#2a5bd7", "#a9b6b0"
_TONES = {"result": _GREEN, "base": _BLUE, "plain": _GREY}
_CHARTED = ("first", "whole", "decode", "characters", "joules", "resident")
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#97a69f",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": "#5b6b64",
    "ytick.color": "#5b6b64",
}


def draw(run: Outcome, path: Path) -> bool:
    """Write what stands side by side; whether there was something, and matplotlib."""
    if not run.sides:
        return False
    height = 1.2 + 0.33 * len(run.sides)
    return _saved(path, (13, 2 * height), lambda figure: _sides(figure, run.sides))


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
            axes.set_ylim(bottom=0)
            axes.set_title(title)
            axes.set_xlabel(x_label)
            axes.set_ylabel(y_label)
            axes.legend(frameon=False, fontsize=8)
            axes.grid(alpha=0.25)

    return bool(charts) and _saved(path, (13, 3.6 * -(-len(charts) // 3)), into)


def _saved(path: Path, size: tuple[float, float], into: Callable[[Any], None]) -> bool:
    try:
        import matplotlib
    except ImportError:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        into(figure)
        figure.savefig(path, dpi=140)
    return True


def _sides(figure: Any, sides: Sequence[Figures]) -> None:
    known = {one.key: one for one in SHOWN}
    for place, key in enumerate(_CHARTED, start=1):
        one = known[key]
        axes = figure.add_subplot(2, 3, place)
        values = [one.value(side) or 0.0 for side in sides]
        tones = [_TONES[tone(side)] for side in sides]
        drawn = axes.barh([side.name for side in sides], values, color=tones)
        axes.bar_label(drawn, [one.text(side) for side in sides], padding=3, fontsize=7)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.2)
        axes.set_title(f"{one.name}, {one.unit}")
        if (place - 1) % 3:
            axes.set_yticks([])

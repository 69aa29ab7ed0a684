"""Charts as PNG, in the colours of the pages. Needs matplotlib, which is asked for when drawing.

Knows nothing of what is measured; see `charts` for the same as parts of a page.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from .charts import Bar

__all__ = ["BLUE", "GREEN", "GREY", "INK", "RED", "TONES", "bar_chart", "saved"]

GREEN, BLUE, GREY, RED, INK = "#047857", "#2a5bd7", "#a9b6b0", "#c2293a", "#14231d"
TONES = {"result": GREEN, "base": BLUE, "plain": GREY}
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


def saved(path: Path, size: tuple[float, float], into: Callable[[Any], None]) -> bool:
    """Write what `into` draws on a figure of `size` inches; whether there is matplotlib."""
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


def bar_chart(axes: Any, rows: Sequence[Bar], title: str, room: float, *, named: bool) -> None:
    """Bars on axes of matplotlib, with `room` for what is told of them; `named` in the margin."""
    names = [fill(row.name, 32) for row in rows]  # two lines at the most, which do not meet
    colors = [TONES[row.tone] for row in rows]
    drawn = axes.barh(names, [row.value for row in rows], color=colors)
    axes.bar_label(drawn, [row.told for row in rows], padding=3, fontsize=7)
    axes.invert_yaxis()
    axes.tick_params("y", labelsize=8)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=room)
    axes.set_title(title)
    if not named:
        axes.set_yticks([])

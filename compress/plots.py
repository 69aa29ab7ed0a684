"""The report's charts as PNG, for a README or a slide. Needs matplotlib; writes nothing without.

Knows nothing of how anything was measured.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .figures import FIGURES, shown
from .page import pareto_points
from .proofs import intervals_of, most_lost, worst_rows
from .report import RunReport, columns

__all__ = ["draw"]

_GREEN, _BLUE, _GREY, _RED = "#047857", "#2a5bd7", "#a9b6b0", "#c2293a"
_TONES = {"result": _GREEN, "base": _BLUE, "plain": _GREY}
_SHOWN = (
    "size", "resident", "first", "first8", "prefill", "prefill8", "decode", "decode8",
    "characters", "correct", "refused", "bleu", "rouge", "chrf", "perplexity", "joules",
)  # fmt: skip
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


def draw(run: RunReport, folder: Path) -> list[Path]:
    """Write steps.png, pareto.png, gate.png and damage.png, as far as there is something."""
    try:
        import matplotlib
    except ImportError:
        return []
    wanted: list[tuple[str, bool, Callable[[Any, RunReport], None], tuple[float, float]]] = [
        ("steps", bool(run.result), _steps, (11, 8.5)),
        ("pareto", bool(run.result), _pareto, (11, 4.4)),
        ("gate", bool(run.gate and run.gate.get("measures")), _gate, (8, 4)),
        ("damage", bool(run.damage), _damage, (max(8.0, 3.2 * len(run.damage or {})), 6)),
    ]
    made = []
    with matplotlib.rc_context(_STYLE):
        for name, there, into, size in wanted:
            if there:
                made.append(folder / f"{name}.png")
                _save(into, run, size, made[-1])
    return made


def _save(
    into: Callable[[Any, RunReport], None], run: RunReport, size: tuple[float, float], path: Path
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    into(figure, run)
    figure.savefig(path, dpi=140)


def _steps(figure: Any, run: RunReport) -> None:
    sides = columns(run)
    tones = [
        _TONES["result" if told is run.result else "base" if told is run.unpruned else "plain"]
        for _, told in sides
    ]
    known = {one.key: one for one in FIGURES}
    for place, key in enumerate(_SHOWN, start=1):
        one = known[key]
        axes = figure.add_subplot(4, 4, place)
        values = [one.read(told) for _, told in sides]
        bars = axes.barh([name for name, _ in sides], [v or 0 for v in values], color=tones)
        axes.bar_label(bars, [shown(one, v) for v in values], padding=3, fontsize=7)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.45)
        axes.set_title(one.name.format(users=8))
        if (place - 1) % 4:
            axes.set_yticks([])


def _pareto(figure: Any, run: RunReport) -> None:
    known = {one.key: one for one in FIGURES}
    for place, (key, label) in enumerate(
        (("size", "MB on disk"), ("first", "ms to the first token")), start=1
    ):
        axes = figure.add_subplot(1, 2, place)
        points = pareto_points(run, known[key])
        stair = sorted((p.x, p.y) for p in points if p.front)
        axes.step(*zip(*stair, strict=True), where="post", color=_GREEN, linestyle="--", alpha=0.7)
        for point in points:
            axes.scatter(point.x, point.y, color=_TONES[point.tone], s=60, zorder=3)
            axes.annotate(
                point.name, (point.x, point.y), (6, 4), textcoords="offset points", fontsize=8
            )
        axes.set_xlabel(label)
        axes.set_ylabel("% of answers correct" if place == 1 else "")
        axes.margins(0.15)
        axes.grid(alpha=0.25)


def _gate(figure: Any, run: RunReport) -> None:
    rows = intervals_of(run.gate or {})
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        color = _GREEN if row.high < row.limit else _RED
        axes.plot([row.low, row.high], [place, place], color=color, linewidth=4, alpha=0.45)
        axes.plot(row.estimate, place, "o", color=color)
        axes.plot([row.limit] * 2, [place - 0.3, place + 0.3], color="#14231d", linewidth=2)
    axes.axvline(0, color=_GREY, linestyle=":")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("points lost against the parent, with 95 % bounds")


def _damage(figure: Any, run: RunReport) -> None:
    views = run.damage or {}
    most = most_lost(views)
    places = figure.subplots(1, len(views), squeeze=False)[0]
    for axes, (view, told) in zip(places, views.items(), strict=True):
        rows = worst_rows(told)
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        losses = np.array([[row.get(name, np.nan) for name in names] for row in rows.values()])
        axes.imshow(losses, cmap="RdYlGn_r", vmin=-most, vmax=most, aspect="auto")
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_title(view)

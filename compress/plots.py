"""The report's charts as PNG, for a README or a slide. Needs matplotlib; writes nothing without.

Knows nothing of how anything was measured.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..agent.charts import Bar
from ..agent.page import signed
from ..agent.plots import GREEN, GREY, INK, RED, TONES, bar_chart, saved
from .figures import FIGURES, shown
from .page import pareto_points
from .proofs import intervals_of, most_lost, worst_rows
from .report import RunReport, columns

__all__ = ["draw"]

_SHOWN = (
    "size", "resident", "first", "first8", "prefill", "prefill8", "decode", "decode8",
    "characters", "correct", "refused", "bleu", "rouge", "chrf", "perplexity", "joules",
)  # fmt: skip

_NAMED = 8
"""Of more points than these only the front and the two that it is about are named."""


def draw(run: RunReport, folder: Path) -> list[Path]:
    """Write steps.png, pareto.png, gate.png and damage.png, as far as there is something."""
    wanted: list[tuple[str, bool, Callable[[RunReport, Any], None], tuple[float, float]]] = [
        ("steps", bool(run.result), _steps, (11, 8.5)),
        ("pareto", bool(run.result or run.techniques), _pareto, (11, 4.4)),
        ("gate", bool(run.gate and run.gate.get("measures")), _gate, (8, 4)),
        ("damage", bool(run.damage), _damage, (max(8.0, 3.2 * len(run.damage or {})), 6)),
    ]
    return [
        folder / f"{name}.png"
        for name, there, into, size in wanted
        if there and saved(folder / f"{name}.png", size, partial(into, run))
    ]


def _steps(run: RunReport, figure: Any) -> None:
    tones = {id(run.result): "result", id(run.unpruned): "base"}
    known = {one.key: one for one in FIGURES}
    for place, key in enumerate(_SHOWN):
        one = known[key]
        values = [(name, one.read(told), told) for name, told in columns(run)]
        rows = [
            Bar(name, value or 0, shown(one, value), tones.get(id(told), "plain"))
            for name, value, told in values
        ]
        axes = figure.add_subplot(4, 4, place + 1)
        bar_chart(axes, rows, one.name.format(users=8), 0.45, named=place % 4 == 0)


def _pareto(run: RunReport, figure: Any) -> None:
    known = {one.key: one for one in FIGURES}
    for place, (key, label) in enumerate(
        (("size", "MB on disk"), ("first", "ms to the first token")), start=1
    ):
        axes = figure.add_subplot(1, 2, place)
        points = pareto_points(run, known[key])
        middle = sum(p.x for p in points) / len(points)
        stair = sorted((p.x, p.y) for p in points if p.front)
        axes.step(*zip(*stair, strict=True), where="post", color=GREEN, linestyle="--", alpha=0.7)
        for point in points:
            axes.scatter(point.x, point.y, color=TONES[point.tone], s=60, zorder=3)
            if len(points) > _NAMED and point.tone == "plain" and not point.front:
                continue
            side, offset = ("left", (7, 5 if point.front else -9))
            if point.front and point.x > middle:
                side, offset = ("right", (-5, 6))
            axes.annotate(
                point.name, (point.x, point.y), offset, textcoords="offset points",
                ha=side, fontsize=8,
            )  # fmt: skip
        axes.set_xlabel(label)
        axes.set_ylabel("% of answers correct" if place == 1 else "")
        axes.margins(0.2, 0.15)
        axes.grid(alpha=0.25)


def _gate(run: RunReport, figure: Any) -> None:
    rows = intervals_of(run.gate or {})
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        color = GREEN if row.tone == "good" else RED
        axes.plot([row.low, row.high], [place, place], color=color, linewidth=4, alpha=0.45)
        axes.plot(row.estimate, place, "o", color=color)
        axes.vlines(row.limit, place - 0.3, place + 0.3, color=INK, linewidth=2)
    axes.axvline(0, color=GREY, linestyle=":")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("points lost against the parent, with 95 % bounds")


def _damage(run: RunReport, figure: Any) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    views = run.damage or {}
    most = most_lost(views)
    shades = LinearSegmentedColormap.from_list("lost", [GREEN, "#f4f7f5", RED])
    places = figure.subplots(1, len(views), squeeze=False)[0]
    for axes, (view, told) in zip(places, views.items(), strict=True):
        rows = worst_rows(told)
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        losses = np.array([[row.get(name, np.nan) for name in names] for row in rows.values()])
        axes.imshow(losses, cmap=shades, vmin=-most, vmax=most, aspect="auto")
        for (down, right), loss in np.ndenumerate(losses):
            if not np.isnan(loss):
                ink = "white" if abs(loss) > 0.7 * most else INK
                axes.text(right, down, signed(loss, 1), ha="center", va="center", color=ink, size=7)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_title(view)

"""What a plan leaves: plan.json, the Pareto front as plan.png, and plan.toml for `compress`.

Knows nothing of how candidates were made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .candidate import UNCOMPRESSED, Trial
from .distill import Heal
from .planner import Plan
from .steps import Step

__all__ = ["draw", "recipe_text", "table", "told", "write_plan"]

_BLUE, _GREEN, _GREY = "#2a5bd7", "#047857", "#a9b6b0"


def write_plan(
    folder: Path, plan: Plan, pruning: Sequence[tuple[str, Step]], about: Mapping[str, Any]
) -> None:
    """Write the files of a plan; plan.toml only where a compressed model is picked."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "plan.toml"
    recipe.unlink(missing_ok=True)
    if plan.pick is not None and plan.pick.candidate != UNCOMPRESSED:
        recipe.write_text(recipe_text(plan, pruning), encoding="utf-8")
    text = json.dumps({**about, **told(plan)}, indent=1, ensure_ascii=False)
    (folder / "plan.json").write_text(text, encoding="utf-8")
    draw(plan, folder / "plan.png")


def told(plan: Plan) -> dict[str, Any]:
    """A plan as JSON-ready data; front and pick by their names."""
    return {
        "budget": asdict(plan.budget),
        "pick": plan.pick.candidate.key if plan.pick else None,
        "threads": plan.pick.candidate.threads if plan.pick else None,
        "reason": plan.reason,
        "front": [trial.candidate.key for trial in plan.front],
        "trials": [
            {"name": trial.candidate.key, "fits": plan.budget.fits(trial), **asdict(trial)}
            for trial in plan.trials
        ],
        "skipped": [{"name": one.candidate.key, "reason": one.reason} for one in plan.skipped],
    }


def recipe_text(plan: Plan, pruning: Sequence[tuple[str, Step]]) -> str:
    """The recipe of the pick; it heals as long as shipped recipes do, longer than the trial did.

    Raises:
        ValueError: nothing was picked.
    """
    if plan.pick is None:
        raise ValueError("nothing was picked")
    one = plan.pick.candidate
    int4 = one.precision == "int4"
    lines = [f'name = "{one.key}"', f"about = {json.dumps(plan.reason)}"]
    for name, step in pruning:
        given = {f.name: getattr(step, f.name) for f in fields(step)}  # type: ignore[arg-type]
        said = {key: value for key, value in given.items() if value or value is False}
        lines += _table(name, said)
    if pruning:
        blocks = {"bits": 4, "block_size": one.block_size} if int4 else {}
        lines += _table("heal", {"tokens": Heal().tokens, **blocks})
    block = {"block_size": one.block_size} if int4 else {}
    lines += _table("export", {"precision": one.precision, **block})
    return "\n".join(lines) + "\n"


def _table(name: str, settings: Mapping[str, Any]) -> list[str]:
    listed = (f"{key} = {json.dumps(value)}" for key, value in settings.items())
    return ["", "[[steps]]", f'use = "{name}"', *listed]


def table(plan: Plan) -> str:
    """The trials as text, best answers first; `*` is the pick, `+` lies on the front."""
    rows = [
        f"  {'candidate':42} {'MB':>6} {'ms':>7} {'ch/s':>6} {'peak':>6} {'correct':>8} "
        f"{'healed':>7}"
    ]
    for trial in sorted(plan.trials, key=lambda t: (not t.result, -t.correct)):
        mark = "*" if trial is plan.pick else "+" if trial in plan.front else " "
        correct = f"{100 * trial.correct:.1f} %" if trial.result else "unhealed"
        rows.append(
            f"{mark} {trial.candidate.key:42} {trial.size_mb:6.1f} {trial.first_ms:7.0f} "
            f"{trial.rate:6.0f} {trial.peak_mb:6.0f} {correct:>8} {trial.healing:5.1f} m"
        )
    rows += [f"  {one.candidate.key:42} {one.reason}" for one in plan.skipped]
    return "\n".join(rows)


def draw(plan: Plan, path: Path) -> bool:
    """The front over size, first token, rate and memory; False where there is no matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    views = (
        ("MB on disk", [t.size_mb for t in plan.trials], plan.budget.max_mb),
        ("ms to the first token", [t.first_ms for t in plan.trials], plan.budget.max_ms),
        ("characters/s", [t.rate for t in plan.trials], 0.0),
        ("MB of memory at the peak", [t.peak_mb for t in plan.trials], 0.0),
    )
    for place, (label, values, limit) in enumerate(views, start=1):
        axes = figure.add_subplot(2, 2, place)
        for trial, value in zip(plan.trials, values, strict=True):
            _dot(axes, plan, trial, value)
        if limit:
            axes.axvline(limit, color="#b45309", linestyle="--", linewidth=1)
        axes.set_xlabel(label)
        axes.set_ylabel("% of answers correct" if place % 2 else "")
        axes.grid(alpha=0.25)
        axes.margins(0.12)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("green: the pick; blue: the Pareto front; hollow: pruned and not healed")
    figure.savefig(path, dpi=130)
    return True


def _dot(axes: Any, plan: Plan, trial: Trial, value: float) -> None:
    color = _GREEN if trial is plan.pick else _BLUE if trial in plan.front else _GREY
    fill = color if trial.result else "none"
    correct = 100 * trial.correct
    axes.scatter(value, correct, s=60, facecolors=fill, edgecolors=color, zorder=3)
    if trial is plan.pick or trial in plan.front:
        axes.annotate(
            trial.candidate.key, (value, correct), (6, 5), textcoords="offset points", fontsize=7
        )

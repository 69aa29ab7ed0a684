"""What became worse, as parts of the page: the gate's losses, the damage map, single answers.

Knows nothing of how they were found.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from ..agent.charts import Interval, intervals
from ..agent.page import command, figure, safe
from .charts import heat
from .report import Change, RunReport

__all__ = ["changes", "damage", "gate", "intervals_of", "most_lost", "worst_rows"]

_ROWS = 24
"""Rows of a heat map that are drawn, the most damaged first."""
_WORST = 10


def gate(run: RunReport) -> str:
    """The verdict, its reasons, the losses beside what is allowed, and the failing ids."""
    if not run.gate:
        return ""
    told = run.gate
    reasons = "".join(f"<li>{safe(str(one))}</li>" for one in told.get("reasons", ()))
    failed = [str(one) for one in told.get("failed", ())]
    ids = (
        f"<details><summary>{len(failed)} questions that only the parent answers right</summary>"
        f"<p class='ids'>{safe(', '.join(failed))}</p></details>"
        if failed
        else ""
    )
    rows = intervals_of(told)
    chart = intervals(rows, 0, "no loss", "points lost") if rows else ""
    box = figure(chart + ids, run.commands.get("gate", ""), kind="wide")
    return (
        "<p class='soft'>Parent and artefact were asked the same questions on the served path. The "
        "dot is the estimate of the points lost, the band its bounds, the thick line the margin. "
        "What passed is green. At the right the shares of parent → artefact. "
        f"{_margins(told)}</p>"
        f"<ul class='reasons'>{reasons}</ul>{box}"
    )


def _margins(told: Mapping[str, Any]) -> str:
    margins = told.get("margins")
    if not isinstance(margins, Mapping):
        return ""
    allowed = [(name, value) for name, value in margins.items() if name != "wider"]
    listed = ", ".join(f"{safe(str(name))} {value:g}" for name, value in allowed)
    wider = (
        " They are wider than the default: the recipe asks for it." if margins.get("wider") else ""
    )
    return f"Margins in points: {listed}.{wider}"


def intervals_of(told: Mapping[str, Any]) -> list[Interval]:
    """The gate's measures: shares 0..1 of both sides, losses in points."""
    margins = told.get("margins") or {}
    found = []
    for name, one in (told.get("measures") or {}).items():
        estimate = float(one.get("estimate", one.get("loss", 0.0)))
        upper = float(one.get("upper", estimate))
        key = "fallback" if "fallback" in name.replace("-", "").replace("_", "") else "loss"
        limit = float(margins.get(key, 2.0))
        verdict = one.get("verdict", "passed" if upper < limit else "refused")
        shares = f"{100 * one['parent']:.1f} → {100 * one['artefact']:.1f} %"
        found.append(
            Interval(
                name.replace("_", " "),
                estimate,
                float(one.get("lower", 2 * estimate - upper)),
                upper,
                shares,
                "good" if verdict == "passed" else "bad",
                limit,
            )
        )
    return found


def damage(run: RunReport) -> str:
    """A heat map a view; the most damaged rows first."""
    if not run.damage:
        return ""
    most = most_lost(run.damage)
    parts = []
    for view, rows in run.damage.items():
        drawn = worst_rows(rows)
        left = len(rows) - len(drawn)
        more = f"<p class='soft'>{left} more in report.json.</p>" if left else ""
        made_by = run.commands.get("damage", "")
        parts.append(
            figure(heat(view, drawn, most) + more, made_by, view[:1].upper() + view[1:], "wide")
        )
    return (
        "<p class='soft'>Points of correct answers lost against the parent at each step; green "
        f"was won.</p><div class='grid pairs'>{''.join(parts)}</div>"
    )


def most_lost(views: Mapping[str, Mapping[str, Mapping[str, float]]]) -> float:
    """The loss that has the full colour: the largest one, at least 5 points."""
    losses = (abs(v) for rows in views.values() for row in rows.values() for v in row.values())
    return max(5.0, *losses, 0.0)


def worst_rows(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The rows to draw: all in their order if they are few, else the most damaged."""
    if len(rows) <= _ROWS:
        return dict(rows)
    ranked = sorted(rows, key=lambda name: -max(rows[name].values(), default=0.0))
    return {name: rows[name] for name in ranked[:_ROWS]}


def changes(run: RunReport) -> str:
    """The worst changes side by side; of rows that are not ours the id alone."""
    if not run.changes:
        return ""
    cards = "".join(_change(one) for one in run.changes[:_WORST])
    return cards + command(run.commands.get("changes", ""))


def _change(one: Change) -> str:
    turned = f"{_right(one.before_right)} → {_right(one.after_right)}"
    head = f"<header><code>{safe(one.id)}</code><span class='soft'>{turned}</span></header>"
    if not one.own:
        return (
            f"<div class='card change'>{head}<span class='soft'>A row of a public set: its text "
            "is not ours to show.</span></div>"
        )
    before, after = _differences(one.before, one.after)
    return (
        f"<div class='card change'>{head}<div class='sides'><div><span>parent</span>{before}</div>"
        f"<div><span>compressed</span>{after}</div></div></div>"
    )


def _right(value: bool) -> str:
    return "right" if value else "wrong"


def _differences(before: str, after: str) -> tuple[str, str]:
    """Both texts, with the words that only one of them has marked."""
    old, new = before.split(), after.split()
    sides: tuple[list[str], list[str]] = ([], [])
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        for words, side, mark in ((old[a:b], sides[0], "del"), (new[c:d], sides[1], "ins")):
            text = safe(" ".join(words))
            if text:
                side.append(text if kind == "equal" else f"<{mark}>{text}</{mark}>")
    return " ".join(sides[0]) or "<i>(nothing)</i>", " ".join(sides[1]) or "<i>(nothing)</i>"

"""The report as one page that opens from disk: text, tables, charts, and no outside address.

Knows nothing of how anything was measured; see `proofs` for gate, damage and changes.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from ..agent.charts import Bar, bars
from ..agent.page import (
    card,
    command,
    figure,
    head,
    paragraphs,
    pill,
    safe,
    signed,
    table,
    wrapped,
)
from .charts import Point, scatter
from .figures import FIGURES, Figure, shown
from .measured import Measured
from .pareto import front
from .proofs import changes, damage, gate
from .report import RunReport, Stage, columns

__all__ = ["against", "page", "pareto_points", "tone"]

_KEYS = ("size", "first", "characters", "resident", "correct", "joules")
_CHARTED = (
    "size", "resident", "first", "first8", "prefill", "prefill8", "decode", "decode8",
    "characters", "correct", "refused", "bleu", "rouge", "chrf", "nats", "joules",
)  # fmt: skip
_GROUPS = {"size": "Size and memory", "first": "Speed", "correct": "Answers", "joules": "Energy"}
_BY_KEY = {one.key: one for one in FIGURES}


def page(run: RunReport) -> str:
    """The whole page."""
    sections = [
        ("result", "", _keys(run)),
        ("steps", "Step by step", _steps(run)),
        ("effects", "What each step did", _charts(run)),
        ("figures", "All figures", _table(run)),
        ("pareto", "Size and speed against correctness", _pareto(run)),
        ("gate", "The gate", gate(run)),
        ("damage", "Where it hurt", damage(run)),
        ("changes", "The ten worst changes", changes(run)),
        ("techniques", "Each technique alone and together", _techniques(run)),
        ("method", "How it was measured", _method(run)),
    ]
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    title = f"{run.name}: compression report"
    return wrapped(title, _head(run), sections, run.created, "report.json", style)


def against(one: Figure, value: float | None, base: float | None) -> str:
    """How a value stands to its base: a ratio, or a difference for what is a score."""
    if value is None or base is None:
        return ""
    if one.share:
        return signed(100 * (value - base), 1) + " points"
    if one.unit == "":
        return signed(value - base, one.digits)
    return f"{value / base:.2f}×" if base else ""


def tone(one: Figure, value: float | None, base: float | None) -> str:
    """`good` or `bad` where a value differs from its base by more than a hundredth of it."""
    if value is None or base is None or abs(value - base) <= 0.01 * abs(base):
        return ""
    return "good" if (value < base) == (one.better == "less") else "bad"


def _head(run: RunReport) -> str:
    verdict = str(run.gate.get("verdict", "undecided")) if run.gate else ""
    named = verdict if verdict in {"passed", "refused"} else "undecided"
    told = pill(named, f"gate: {verdict}" if verdict else "not gated")
    return head("Compression report", run.name, _sentence(run), told if run.stages else "")


def _sentence(run: RunReport) -> str:
    """The result in one sentence."""
    result, base = run.result, run.unpruned
    if result is None and run.techniques:
        return f"{len(run.techniques)} exports of <b>{safe(run.model)}</b>, measured in one run."
    if result is None:
        return "Nothing was measured."
    text = f"<b>{safe(run.model)}</b> in <b>{result.size_mb:.1f} MB</b>"
    if run.stored_mb:
        text += f" (and {run.stored_mb:.1f} MB of entries read beforehand)"
    if base is None or not base.characters.median:  # a model that writes nothing
        return text + f", {100 * result.quality.correct:.1f} % of the answers correct."
    first = result.first_token_ms.median / base.first_token_ms.median
    rate = result.characters.median / base.characters.median
    lost = 100 * (base.quality.correct - result.quality.correct)
    answers = (
        f"it answers {lost:.1f} points fewer questions correctly"
        if lost >= 0.05
        else "no fewer of its answers are correct"
    )
    return (
        f"{text} instead of {base.size_mb:.1f} MB. Against the unpruned int4 export the first "
        f"word takes {first:.2f} of the time, answers are written {rate:.2f} times as fast, "
        f"and {answers}."
    )


def _keys(run: RunReport) -> str:
    result = run.result
    if result is None:
        return ""
    cards = "".join(_key(run, _BY_KEY[key], result) for key in _KEYS)
    return f"<div class='grid keys'>{cards}</div>"


def _key(run: RunReport, one: Figure, result: Measured) -> str:
    value = one.read(result)
    number, _, unit = shown(one, value).partition(" ")
    lines = []
    base = one.read(run.unpruned) if run.unpruned else None
    link = "against" if one.share else "of"
    if base is not None:
        chip = f"<span class='chip {tone(one, value, base)}'>{against(one, value, base)}</span>"
        lines.append(f"{chip} {link} the unpruned int4 export, {_kept(shown(one, base))}")
    if one.key == "size" and value is not None:
        lines += _sizes(run, value, base)
    whole = run.fp32_mb if one.key == "size" else one.read(run.fp32) if run.fp32 else None
    if whole and value is not None:
        lines.append(f"[{against(one, value, whole)} {link} fp32, {_kept(shown(one, whole))}]")
    return card(_name(one, result), number, unit, lines)


def _sizes(run: RunReport, value: float, base: float | None) -> list[str]:
    """A size beside the file that was fetched, and with the entries that were read beforehand."""
    lines = []
    if run.fetched_mb:
        lines.append(f"{value / run.fetched_mb:.2f}× of the fetched {run.fetched_mb:.0f} MB file")
    if run.stored_mb:
        told = f"with the entries it read beforehand {_kept(f'{value + run.stored_mb:.1f} MB')}"
        if run.stored_before_mb and base is not None:
            told += f", before {_kept(f'{base + run.stored_before_mb:.1f} MB')}"
        lines.append(told)
    return lines


def _kept(text: str) -> str:
    """A number and its unit on one line."""
    return text.replace(" ", "\u00a0")


def _steps(run: RunReport) -> str:
    items = "".join(
        f"<li class='card'><div><b>{safe(stage.name)}</b> "
        f"<span class='soft'>{safe(stage.kind)}</span><div class='soft'>{_pairs(stage)}</div>"
        f"{command(stage.command)}</div><span class='took'>{_took(stage.seconds)}</span></li>"
        for stage in run.stages
    )
    return f"<ol class='steps'>{items}</ol>" if items else ""


def _pairs(stage: Stage) -> str:
    """Settings, and what the step told of itself; long lists are left to report.json."""
    return _chips(stage.settings) + (f"<div>→ {_chips(stage.told)}</div>" if stage.told else "")


def _chips(told: Mapping[str, Any], before: str = "") -> str:
    parts = []
    for name, value in told.items():
        if isinstance(value, Mapping):
            parts.append(_chips(value, f"{before}{name} "))
        elif value not in ("", (), []) and len(str(value)) <= 60:
            value = f"{value:,}" if isinstance(value, int) else value
            label = f"{before}{name}".replace("_", " ")
            parts.append(f"<span class='fact'>{safe(label)} <b>{safe(str(value))}</b></span>")
    return " ".join(parts)


def _took(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _charts(run: RunReport) -> str:
    sides = _sides(run)
    if not run.result:
        return ""
    last = sides[-1][1]
    cards = []
    for key in _CHARTED:
        one = _BY_KEY[key]
        rows = [(name, one.read(told), mark) for name, told, mark in sides]
        drawn = [Bar(n, v, _number(one, v), mark) for n, v, mark in rows if v is not None]
        if drawn:
            unit = f"{one.unit}, {one.better} is better".removeprefix(", ")
            cards.append(figure(bars(drawn), title=_name(one, last), unit=unit))
    return (
        "<p class='soft'>The unpruned int4 export in blue, the result in green. Steps before the "
        "export are measured as an export of what they leave, in the recipe's precision.</p>"
        f"<div class='grid charts'>{''.join(cards)}</div>"
        f"{command(last.command, 'All of them: ')}"
    )


def _sides(run: RunReport) -> list[tuple[str, Measured, str]]:
    """What stands side by side, with its tone."""
    told = columns(run)
    marks = {id(run.result): "result", id(run.unpruned): "base"}
    return [(name, one, marks.get(id(one), "plain")) for name, one in told]


def _table(run: RunReport) -> str:
    sides = _sides(run)
    if not run.result:
        return ""
    heads = "".join(f"<th class='{mark}'>{safe(name)}</th>" for name, _, mark in sides)
    rows = []
    for one in FIGURES:
        if one.key in _GROUPS:
            wide = len(sides) + 1
            rows.append(f"<tr class='group'><th colspan='{wide}'>{_GROUPS[one.key]}</th></tr>")
        cells = "".join(_cell(one, told, run.unpruned, mark) for _, told, mark in sides)
        name = f"{safe(_name(one, sides[-1][1]))}<small>{one.unit}</small>"
        rows.append(f"<tr><td>{name}</td>{cells}</tr>")
    return (
        "<p class='soft'>Medians; below them the ratio to the unpruned int4 export (points for "
        "shares and scores) and the extremes.</p>"
        f"{table(f'<th></th>{heads}', ''.join(rows))}{command(sides[-1][1].command)}"
    )


def _cell(one: Figure, told: Measured, base: Measured | None, mark: str) -> str:
    value, before = one.read(told), one.read(base) if base else None
    spread = one.spread(told)
    notes = []
    if base is not None and told is not base and (ratio := against(one, value, before)):
        notes.append(f"<small class='{tone(one, value, before)}'>{ratio}</small>")
    if spread is not None and spread.of:
        low, high = (f"{end:,.{one.digits}f}" for end in (spread.low, spread.high))
        notes.append(f"<small>{low}–{high}</small>")
    return f"<td class='{mark}'>{_number(one, value)}{''.join(notes)}</td>"


def _number(one: Figure, value: float | None) -> str:
    """A value where its unit stands elsewhere."""
    return shown(one, value).removesuffix(one.unit).strip()


def pareto_points(run: RunReport, x: Figure) -> list[Point]:
    """What may be offered as a point of `x` and correctness; the front is marked.

    fp32 would leave no room for the rest, and what was pruned and not healed is no result.
    """
    sides = [(n, told, mark) for n, told, mark in _sides(run) if _offered(run, told)]
    known = [told for _, told, _ in _sides(run)]
    for one in run.techniques:
        if one.measured and one.kind != "prune" and one.measured not in known:
            sides.append((one.name, one.measured, "plain"))
    values = [(x.read(told) or 0.0, 100 * told.quality.correct) for _, told, _ in sides]
    best = set(front([(v if x.better == "less" else -v, -right) for v, right in values]))
    at: dict[tuple[float, float], list[int]] = {}
    for place, value in enumerate(values):
        at.setdefault(value, []).append(place)
    return [
        Point(
            ", ".join(sides[place][0] for place in places),
            *value,
            min((sides[place][2] for place in places), key=("result", "base", "plain").index),
            any(place in best for place in places),
        )
        for value, places in at.items()
    ]


def _offered(run: RunReport, told: Measured) -> bool:
    pruned = [stage.measured for stage in run.stages if stage.kind == "prune"]
    return told is not run.fp32 and (told is run.result or all(told is not one for one in pruned))


def _pareto(run: RunReport) -> str:
    if not run.result and not run.techniques:
        return ""
    made_by = run.result.command if run.result else ""
    charts = []
    for key, label in (("size", "MB on disk"), ("first", "ms to the first token")):
        points = pareto_points(run, _BY_KEY[key])
        drawn = scatter(_BY_KEY[key].name, points, label, "% of answers correct")
        charts.append(figure(drawn, made_by, _BY_KEY[key].name, "wide"))
    return (
        "<p class='soft'>Up and to the left is better; nothing beats what lies on the dashed "
        "line. fp32 and what is pruned but not healed are left out; they stand in the table."
        f"</p><div class='grid pairs'>{''.join(charts)}</div>"
    )


def _techniques(run: RunReport) -> str:
    if not run.techniques:
        return ""
    keys = [
        _BY_KEY[key]
        for key in ("size", "first", "characters", "peak", "correct", "refused", "chrf", "nats")
    ]
    heads = "<th></th>" + "".join(f"<th>{safe(one.name)}<br>{safe(one.unit)}</th>" for one in keys)
    rows = "".join(
        f"<tr><td>{safe(stage.name)}<small class='soft'>{_took(stage.seconds)}</small></td>"
        + "".join(_cell(one, stage.measured, run.unpruned, "") for one in keys)
        + "</tr>"
        for stage in run.techniques
        if stage.measured
    )
    return table(heads, rows) + command(run.commands.get("techniques", ""))


def _method(run: RunReport) -> str:
    alone = next((one.measured for one in run.techniques if one.measured), None)
    result = run.result or alone
    lines = [f"Made by <code>{safe(run.command)}</code> on {safe(run.machine)}."]
    if result is not None:
        lines += [
            f"{result.questions} held questions, greedy, each generator in a process of its own, "
            "all of them asked in turn question by question: compare ratios. MB are 10⁶ bytes; "
            f"resident memory holds {result.bare_mb:.0f} MB of Python before the generator opens.",
            "Correct: no refusal; every number, price, date, link and name of the target stands in "
            "the answer, every one of the answer in the target or its entries, and half of the "
            "target's words. The gate judges what is sent to customers instead.",
            f"Energy: {safe(result.energy)}.",
        ]
    lines += [safe(note) for note in run.notes]
    return paragraphs(lines)


def _name(one: Figure, told: Measured) -> str:
    users = told.crowd.users if told.crowd else 8
    return one.name.format(users=users)

"""A run of `bench` as one page that opens from disk: tables, charts, and no outside address.

Knows nothing of how anything was measured.
"""

from collections.abc import Sequence

from ..agent.charts import Bar, Interval, bars, intervals
from ..agent.page import card, command, figure, head, paragraphs, pill, safe, table, wrapped
from .bench_report import SHOWN, Shown
from .outcome import LLAMA, Compared, Outcome, wanted
from .race import Figures
from .spreads import Ratio, Spread, told

__all__ = ["page", "tone"]

_CHARTED = ("first", "whole", "decode", "prefill", "characters", "step", "joules", "resident")
_VERDICTS = {"met": "passed", "missed": "refused"}
_SHOWN = {one.key: one for one in SHOWN}
_TITLES = {
    "whole": "Whole answer",
    "first": "Time to first token",
    "decode": "Decode",
    "behind": "Decode behind the first step",
}


def page(run: Outcome) -> str:
    """The whole page."""
    sections = [
        ("result", "", _keys(run)),
        ("bars", "What the bars say", _bars(run)),
        ("ratios", "How many times as fast", _ratios(run)),
        ("sides", "Side by side", _charts(run)),
        ("figures", "All figures", _table(run)),
        ("start", "Start and memory at rest", _start(run)),
        ("users", "Many users at once", _users(run)),
        ("sweep", "llama.cpp's settings", _sweep(run)),
        ("floor", "What the machine allows", _floor(run)),
        ("method", "How it was measured", _method(run)),
    ]
    return wrapped(f"{run.bot}: speed", _head(run), sections, run.created, "bench.json")


def tone(side: Figures) -> str:
    """The colour of a side: what is compared green, peers blue, our rows apart grey."""
    if side.name in ("served", "runtime"):
        return "result"
    return "base" if side.kind == "peer" else "plain"


def _head(run: Outcome) -> str:
    stopped = pill("refused", f"stopped early: {run.stopped}") if run.stopped else ""
    about = (
        f"{run.counted} replies that the model wrote, to {run.asked} questions, all sides asked in "
        f"turn on {run.machine.told()}."
    )
    told = f"<p class='soft'>{safe(about)}</p>{command(run.command)}"
    return head("Speed report", run.bot, _sentence(run), stopped) + told


def _sentence(run: Outcome) -> str:
    """The result in one sentence."""
    served = _served(run)
    if served is None or not served.whole_ms.of:
        return "The bot was not measured as it is served."
    times = _times(run, "whole")
    than = f", <b>{times.value:.1f} times as fast</b> as {LLAMA}" if times else ""
    return (
        f"A whole answer takes <b>{served.whole_ms.median:,.0f} ms</b>{than}; its first word comes "
        f"after {served.first_ms.median:,.0f} ms."
    )


def _keys(run: Outcome) -> str:
    served = _served(run)
    if served is None:
        return ""
    cards = []
    for one in (_SHOWN[key] for key in ("first", "whole", "resident")):
        times = _times(run, one.key)
        told = f"<span class='chip'>{times.value:.2f}×</span> as fast as {LLAMA}" if times else ""
        extremes = one.range(served) and f"extremes {one.range(served)} {one.unit}"
        peak = f"peak {_SHOWN['peak'].text(served)} MB" if one.key == "resident" else ""
        notes = [note for note in (told, extremes, peak) if note]
        cards.append(card(one.name, one.text(served) or "–", one.unit, notes))
    return f"<div class='grid keys'>{''.join(cards)}</div>"


def _served(run: Outcome) -> Figures | None:
    return next((side for side in run.sides if side.kind == "served"), None)


def _times(run: Outcome, measure: str) -> Ratio | None:
    """How many times as fast as llama.cpp the bot is as it is served."""
    wanted = (measure, "served", LLAMA)
    found = (one.all for one in run.ratios if (one.measure, one.ours, one.group) == wanted)
    return next(found, None)


def _bars(run: Outcome) -> str:
    rows = "".join(
        f"<tr><td>{safe(bar.name)}<small>{safe(bar.bar)}</small></td><td>{safe(bar.reached)}</td>"
        f"<td>{pill(_VERDICTS.get(bar.verdict, 'undecided'), bar.verdict)}</td></tr>"
        for bar in run.bars
    )
    return table("<th>bar</th><th>reached</th><th>verdict</th>", rows, "told") if rows else ""


def _ratios(run: Outcome) -> str:
    parts = []
    for measure, title in _TITLES.items():
        rows = [one for one in run.ratios if one.measure == measure and one.all]
        bar = wanted(run).get(measure)
        values = [(one, one.stored or one.all) for one in rows]
        drawn = [_row(one, value, bar) for one, value in values if value is not None]
        if drawn:
            chart = intervals(drawn, 1, "as fast", "times as fast")
            parts.append(figure(chart + _parts(rows), title=title, kind="wide"))
    if not parts:
        return ""
    return (
        "<p class='soft'>Question by question against the fastest setting of each peer: medians of "
        "the ratios with their 95 % bootstrap intervals. A thick line is a bar.</p>"
        + "".join(parts)
    )


def _row(one: Compared, value: Ratio, bar: float | None) -> Interval:
    if one.group != LLAMA or one.ours not in ("served", "runtime"):
        bar = None
    limit = 1.0 if bar is None else bar
    tone = "good" if value.low >= limit else "bad" if value.high < limit else "open"
    name, told = f"{one.ours} / {one.group}", f"{value.value:.2f}×"
    return Interval(name, value.value, value.low, value.high, told, tone, bar)


def _parts(rows: Sequence[Compared]) -> str:
    """What else was compared than what is drawn."""
    lines, parts = [], [("the answers are equal", "equal")]
    if any(one.stored for one in rows):
        lines.append("Drawn are the questions whose entries were all stored.")
        parts += [("entries were read", "read"), ("all questions count", "all")]
    for where, name in parts:
        values = [(one, value) for one in rows if (value := getattr(one, name)) is not None]
        items = "; ".join(f"{one.ours} / {one.group} {told(value)}" for one, value in values)
        lines += [f"Where {where}: {safe(items)}."] if items else []
    return f"<figcaption>{'<br>'.join(lines)}</figcaption>" if lines else ""


def _charts(run: Outcome) -> str:
    cards = []
    for one in (_SHOWN[key] for key in _CHARTED):
        rows = [_bar(one, side) for side in run.sides if one.value(side) is not None]
        if rows:
            unit = f"{one.unit}, {'less' if one.less else 'more'} is better".removeprefix(", ")
            cards.append(figure(bars(rows), title=one.name, unit=unit))
    if not cards:
        return ""
    return (
        "<p class='soft'>Medians; a thin line runs from the least to the most, as far as it fits. "
        "Green is the bot, blue what one could run instead, grey the bot without some of its parts."
        f"</p><div class='grid pairs'>{''.join(cards)}</div>"
    )


def _bar(one: Shown, side: Figures) -> Bar:
    found = one.read(side)
    low, high = (found.low, found.high) if isinstance(found, Spread) else (0.0, 0.0)
    return Bar(side.name, one.value(side) or 0.0, one.text(side), tone(side), low, high)


def _table(run: Outcome) -> str:
    if not run.sides:
        return ""
    heads = "<th></th>" + "".join(
        f"<th class='{tone(side)}'>{safe(side.name)}</th>" for side in run.sides
    )
    rows = "".join(
        f"<tr><td>{one.name}<small>{one.unit}</small></td>"
        + "".join(
            f"<td class='{tone(side)}'>{one.text(side) or '–'}<small>{one.range(side)}</small></td>"
            for side in run.sides
        )
        + "</tr>"
        for one in SHOWN
    )
    return "<p class='soft'>Medians, below them the extremes.</p>" + table(heads, rows)


def _start(run: Outcome) -> str:
    if run.start is None:
        return ""
    told_of = (
        ("API ready while the page loads", run.start.ready_s, "s", 2),
        ("Page ready", run.start.page_s, "s", 2),
        ("At rest with the page", run.start.rest_mb, "MB", 0),
        ("API alone ready", run.start.api_ready_s, "s", 2),
        ("API alone at rest", run.start.api_rest_mb, "MB", 0),
    )
    rows = "".join(
        f"<tr><td>{name}</td><td>{one.median:,.{digits}f} {unit}</td>"
        f"<td>{one.low:,.{digits}f}–{one.high:,.{digits}f}</td><td>{one.of}</td></tr>"
        for name, one, unit, digits in told_of
        if one.of
    )
    return table("<th></th><th>median</th><th>extremes</th><th>starts</th>", rows)


def _users(run: Outcome) -> str:
    crowds = run.crowds
    if crowds is None:
        return ""
    rows = "".join(
        f"<tr><td>{safe(who)}</td><td>{one.answers_a_second:.2f}</td><td>{one.p50_ms:,.0f}</td>"
        f"<td>{one.p95_ms:,.0f}</td><td>{one.busy}</td><td>{sum((one.errors or {}).values())}</td>"
        f"<td>{one.before_mb:,.0f} → {one.most_mb:,.0f}</td></tr>"
        for who, rounds in (("served", crowds.ours), (crowds.peer_name, crowds.peer))
        for one in rounds
    )
    heads = (
        f"<th>{crowds.users} users</th><th>answers/s</th><th>wait, ms</th><th>p95, ms</th>"
        "<th>503</th><th>errors</th><th>memory, MB</th>"
    )
    ceiling = (
        f"<p>Ceiling: 1000 / ({crowds.fed} tokens fed an answer × {crowds.best_ms:.3g} ms a token "
        f"at the best batch) = {crowds.ceiling} answers/s; {100 * crowds.share:.0f} % of it was "
        "reached.</p>"
        if crowds.ceiling
        else ""
    )
    return (
        "<p class='soft'>The peer answers one after the other; its waits are those of a queue of "
        f"as many users.</p>{table(heads, rows)}{ceiling}"
    )


def _sweep(run: Outcome) -> str:
    if not run.sweep:
        return ""
    rows = "".join(
        f"<tr><td>{safe(one.setting.name)}</td>"
        + (
            f"<td colspan='3'>{safe(one.failed)}</td>"
            if one.failed
            else f"<td>{one.first_ms:,.1f}</td><td>{one.whole_ms:,.1f}</td>"
            f"<td>{one.decode:.1f}</td>"
        )
        + "</tr>"
        for one in sorted(run.sweep, key=lambda one: (bool(one.failed), one.whole_ms))
    )
    chosen = "; ".join(f"{measure}: {name}" for measure, name in run.chosen.items())
    heads = "<th></th><th>first, ms</th><th>whole, ms</th><th>decode, tokens/s</th>"
    return f"<p>Fastest: {safe(chosen)}.</p>{table(heads, rows)}"


def _floor(run: Outcome) -> str:
    floor = run.floor
    if floor is None:
        return ""
    pace = ", ".join(f"{length}: {ms:.1f}" for length, ms in floor.pace_ms.items())
    return (
        f"<p>The generator's {floor.generator_mb:.1f} MB over {floor.memory_gb_a_second:.1f} GB/s "
        f"that memory reads here: no step can take less than {floor.token_ms:.2f} ms. Steps by "
        f"tokens taken in at once, in ms: {pace}.</p>"
    )


def _method(run: Outcome) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in run.machine.versions.items())
    left_out = ", ".join(f"{count} {why}" for why, count in run.left_out.items() if count)
    lines = [
        "Every side is a process of its own and is greedy; who comes first changes from question "
        "to question. Peers read the same token ids. Only questions count whose served reply the "
        "model wrote; the answer cache is off.",
        "Decode is (tokens - 1) / (time of the last token - time of the first), of answers whose "
        "tokens did not all come in one step; of all answers: their sums. Behind the first step: "
        "without the tokens that lookup added to the step of the first. Prefill is the prompt's "
        "tokens over the time to the first. MB are 10⁶ bytes.",
        f"Left out: {left_out or 'nothing'}. Energy: {run.energy or 'not measured'}. Load when it "
        f"began: {run.machine.load}.",
        *(f"{'; '.join(names)}: {about}." for about, names in _driven(run).items()),
        f"{run.machine.system}, Python {run.machine.python}, {versions}.",
        *run.notes,
    ]
    return paragraphs(safe(line) for line in lines)


def _driven(run: Outcome) -> dict[str, list[str]]:
    """What drives a side, and the sides that it drives."""
    found: dict[str, list[str]] = {}
    for side in run.sides:
        found.setdefault(side.about, []).append(side.name)
    return found

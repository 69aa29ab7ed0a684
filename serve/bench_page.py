"""A run of `bench` as one page that opens from disk: tables, charts, and no outside address.

Knows nothing of how anything was measured.
"""

import html
from collections.abc import Iterable
from importlib.resources import files

from .bench_charts import Bar, bars, ratios
from .bench_report import SHOWN, Shown
from .outcome import Compared, Outcome, wanted
from .race import Figures
from .spreads import Ratio, Spread, told

__all__ = ["page", "tone", "wrapped"]

_CHARTED = ("first", "whole", "decode", "prefill", "characters", "step", "joules", "resident")
_TITLES = {
    "whole": "Whole answer",
    "first": "Time to first token",
    "decode": "Decode",
    "behind": "Decode behind the first step",
}
_ESCAPE = html.escape


def page(run: Outcome) -> str:
    """The whole page."""
    sections = [
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
    return wrapped(f"{run.bot}: speed", _head(run), sections, f"{run.created}.", "bench.json")


def wrapped(
    title: str, head: str, sections: Iterable[tuple[str, str, str]], foot: str, data: str
) -> str:
    """Sections (name, title, body) in a page; empty ones are left out."""
    shown = [(name, heading, body) for name, heading, body in sections if body]
    links = "".join(f"<a href='#{name}'>{_ESCAPE(heading)}</a>" for name, heading, _ in shown)
    body = "".join(
        f"<section id='{name}'><h2>{_ESCAPE(heading)}</h2>{content}</section>"
        for name, heading, content in shown
    )
    style = files(__package__).joinpath("bench.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_ESCAPE(title)}</title><style>{style}</style></head>"
        f"<body><main>{head}<nav>{links}</nav>{body}"
        f"<footer>Featherdesk, {_ESCAPE(foot)} The same as data: <a href='{data}'>{data}</a>."
        "</footer></main></body></html>\n"
    )


def tone(side: Figures) -> str:
    """The colour of a side: what is compared green, peers blue, our rows apart grey."""
    if side.name in ("served", "runtime"):
        return "result"
    return "base" if side.kind == "peer" else "plain"


def _head(run: Outcome) -> str:
    stopped = (
        f"<span class='pill refused'>stopped early: {_ESCAPE(run.stopped)}</span>"
        if run.stopped
        else ""
    )
    return (
        f"<p class='eyebrow'>Speed report</p><h1>{_ESCAPE(run.bot)}</h1>{stopped}"
        f"<p class='lead'>{run.counted} replies that the model wrote, to {run.asked} questions, "
        f"all sides asked in turn on <b>{_ESCAPE(run.machine.told())}</b>.</p>"
        f"<p class='soft'><code>{_ESCAPE(run.command)}</code></p>"
    )


def _bars(run: Outcome) -> str:
    rows = "".join(
        f"<tr><td>{_ESCAPE(bar.name)}</td><td>{_ESCAPE(bar.bar)}</td>"
        f"<td>{_ESCAPE(bar.reached)}</td><td><span class='pill {_pill(bar.verdict)}'>"
        f"{_ESCAPE(bar.verdict)}</span></td></tr>"
        for bar in run.bars
    )
    return _boxed("<th></th><th>bar</th><th>reached</th><th></th>", rows) if rows else ""


def _pill(verdict: str) -> str:
    return {"met": "passed", "missed": "refused"}.get(verdict, "undecided")


def _ratios(run: Outcome) -> str:
    parts = []
    for measure, title in _TITLES.items():
        rows = [one for one in run.ratios if one.measure == measure and one.all]
        drawn = [
            _row(one, one.all, wanted(run).get(measure, 0.0)) for one in rows if one.all is not None
        ]
        if drawn:
            chart = ratios(title, drawn)
            parts.append(f"<figure class='wide'><h3>{title}</h3>{chart}{_equal(rows)}</figure>")
    if not parts:
        return ""
    return (
        "<p class='soft'>Question by question against the fastest setting of each peer: medians of "
        "the ratios with their 95 % bootstrap intervals. A black line is a bar.</p>"
        + "".join(parts)
    )


def _row(one: Compared, value: Ratio, bar: float) -> tuple[str, float, float, float, float]:
    wanted = bar if one.group == "llama.cpp" and one.ours in ("served", "runtime") else 0.0
    return f"{one.ours} / {one.group}", value.value, value.low, value.high, wanted


def _equal(rows: Iterable[Compared]) -> str:
    items = "; ".join(
        f"{one.ours} / {one.group} {told(one.equal)}" for one in rows if one.equal is not None
    )
    return f"<figcaption>Where the answers are equal: {_ESCAPE(items)}.</figcaption>"


def _charts(run: Outcome) -> str:
    known = {one.key: one for one in SHOWN}
    cards = []
    for one in (known[key] for key in _CHARTED):
        rows = [_bar(one, side) for side in run.sides if one.value(side) is not None]
        if rows:
            head = f"<h3>{one.name} <small>{one.unit}</small></h3>"
            cards.append(f"<figure>{head}{bars(one.name, rows)}</figure>")
    return f"<div class='grid charts'>{''.join(cards)}</div>" if cards else ""


def _bar(one: Shown, side: Figures) -> Bar:
    found = one.read(side)
    low, high = (found.low, found.high) if isinstance(found, Spread) else (0.0, 0.0)
    return Bar(side.name, one.value(side) or 0.0, one.text(side), tone(side), low, high)


def _table(run: Outcome) -> str:
    if not run.sides:
        return ""
    head = "<th></th>" + "".join(
        f"<th class='{tone(side)}'>{_ESCAPE(side.name)}</th>" for side in run.sides
    )
    rows = "".join(
        f"<tr><td>{one.name}<small>{one.unit}</small></td>"
        + "".join(
            f"<td class='{tone(side)}'>{one.text(side)}<small>{one.range(side)}</small></td>"
            for side in run.sides
        )
        + "</tr>"
        for one in SHOWN
    )
    return "<p class='soft'>Medians, below them the extremes.</p>" + _boxed(head, rows)


def _start(run: Outcome) -> str:
    if run.start is None:
        return ""
    told_of = (
        ("API ready while the page loads", run.start.ready_s, "s"),
        ("Page ready", run.start.page_s, "s"),
        ("At rest with the page", run.start.rest_mb, "MB"),
        ("API alone ready", run.start.api_ready_s, "s"),
        ("API alone at rest", run.start.api_rest_mb, "MB"),
    )
    rows = "".join(
        f"<tr><td>{name}</td><td>{one.median:,.2f} {unit}</td>"
        f"<td>{one.low:,.2f}–{one.high:,.2f}</td><td>{one.of}</td></tr>"
        for name, one, unit in told_of
        if one.of
    )
    return _boxed("<th></th><th>median</th><th>extremes</th><th>starts</th>", rows)


def _users(run: Outcome) -> str:
    crowds = run.crowds
    if crowds is None:
        return ""
    rows = "".join(
        f"<tr><td>{_ESCAPE(who)}</td><td>{one.answers_a_second:.2f}</td><td>{one.p50_ms:,.0f}</td>"
        f"<td>{one.p95_ms:,.0f}</td><td>{one.busy}</td><td>{sum((one.errors or {}).values())}</td>"
        f"<td>{one.before_mb:,.0f} → {one.most_mb:,.0f}</td></tr>"
        for who, rounds in (("served", crowds.ours), (crowds.peer_name, crowds.peer))
        for one in rounds
    )
    head = (
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
        f"as many users.</p>{_boxed(head, rows)}{ceiling}"
    )


def _sweep(run: Outcome) -> str:
    if not run.sweep:
        return ""
    rows = "".join(
        f"<tr><td>{_ESCAPE(one.setting.name)}</td>"
        + (
            f"<td colspan='3'>{_ESCAPE(one.failed)}</td>"
            if one.failed
            else f"<td>{one.first_ms:,.1f}</td><td>{one.whole_ms:,.1f}</td>"
            f"<td>{one.decode:.1f}</td>"
        )
        + "</tr>"
        for one in sorted(run.sweep, key=lambda one: (bool(one.failed), one.whole_ms))
    )
    chosen = "; ".join(f"{measure}: {name}" for measure, name in run.chosen.items())
    head = "<th></th><th>first, ms</th><th>whole, ms</th><th>decode, tokens/s</th>"
    return f"<p>Fastest: {_ESCAPE(chosen)}.</p>{_boxed(head, rows)}"


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
        *(f"{side.name}: {side.about}." for side in run.sides),
        f"{run.machine.system}, Python {run.machine.python}, {versions}.",
        *run.notes,
    ]
    return "".join(f"<p>{_ESCAPE(line)}</p>" for line in lines)


def _boxed(head: str, rows: str) -> str:
    return (
        f"<div class='card scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )

"""A run of `bench` as text, and as a folder: bench.json, bench.html and bench.png.

Knows nothing of how anything was measured.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..agent.artifacts import atomic_folder
from ..agent.destination import BENCH
from .outcome import Outcome
from .race import Figures
from .spreads import Spread, told

__all__ = ["SHOWN", "Shown", "table", "write_report"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure of a side: name, unit, decimals, and whether less is better."""

    key: str
    name: str
    unit: str
    digits: int
    read: Callable[[Figures], Spread | float | None]
    less: bool = False

    def value(self, side: Figures) -> float | None:
        """The median, or the value; None where it was not measured."""
        found = self.read(side)
        if isinstance(found, Spread):
            return found.median if found.of else None
        return found or None

    def text(self, side: Figures) -> str:
        """The value in its unit."""
        found = self.value(side)
        return "" if found is None else f"{found:,.{self.digits}f}"

    def range(self, side: Figures) -> str:
        """The extremes; nothing where there is one value."""
        found = self.read(side)
        if not isinstance(found, Spread) or found.of < 2:
            return ""
        return f"{found.low:,.{self.digits}f}–{found.high:,.{self.digits}f}"


SHOWN = (
    Shown("first", "Time to first token", "ms", 1, lambda one: one.first_ms, less=True),
    Shown("whole", "Whole answer", "ms", 1, lambda one: one.whole_ms, less=True),
    Shown("prefill", "Prefill", "tokens/s", 0, lambda one: one.prefill),
    Shown("decode", "Decode, all answers", "tokens/s", 1, lambda one: one.decode_all),
    Shown("behind", "Decode, behind the first step", "tokens/s", 1, lambda one: one.decode_behind),
    Shown("decode_each", "Decode, an answer", "tokens/s", 1, lambda one: one.decode),
    Shown("characters", "Characters", "a second", 0, lambda one: one.characters),
    Shown("step", "Tokens a step", "", 2, lambda one: one.tokens_a_step),
    Shown("tokens", "Tokens an answer", "", 0, lambda one: one.tokens),
    Shown("prompt", "Tokens of the prompt", "", 0, lambda one: one.prompt),
    Shown("fed", "Tokens fed an answer", "", 0, lambda one: one.fed, less=True),
    Shown("joules", "Energy an answer", "J", 2, lambda one: one.joules, less=True),
    Shown("resident", "Resident memory after", "MB", 0, lambda one: one.resident_mb, less=True),
    Shown("peak", "Peak memory", "MB", 0, lambda one: one.peak_mb, less=True),
    Shown("equal", "Answers equal to our runtime's", "%", 0, lambda one: _percent(one.equal)),
    Shown("hits", "Blocks found stored", "%", 0, lambda one: _percent(one.hits)),
    Shown("stored", "Questions with all of them", "%", 0, lambda one: _percent(one.stored)),
    Shown("routing", "Routing in it", "ms", 1, lambda one: one.routing_ms, less=True),
)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def write_report(out: Path, run: Outcome) -> None:
    """Write the folder `out`, whole or not at all; the plot needs matplotlib.

    The page opens from disk and names no outside address.
    """
    from .bench_page import page
    from .bench_plots import draw

    with atomic_folder(out) as fresh:
        found = {**asdict(run), "bars": [asdict(bar) for bar in run.bars]}
        text = json.dumps(found, indent=1, ensure_ascii=False)
        (fresh / BENCH).write_text(text, encoding="utf-8")
        (fresh / "bench.html").write_text(page(run), encoding="utf-8")
        draw(run, fresh / "bench.png")


def table(run: Outcome) -> str:
    """Everything in lines of text."""
    lines = [
        f"{run.bot} on {run.machine.told()}, load {run.machine.load}",
        f"{run.counted} replies of the model to {run.asked} questions, {run.threads} threads",
    ]
    lines += [f"STOPPED EARLY: {run.stopped}"] * bool(run.stopped)
    lines += _start(run)
    for side in run.sides:
        lines += ["", f"{side.name}  ({side.about})"]
        lines += [
            f"  {one.name:32} {one.text(side):>10} {one.unit:9} {one.range(side)}".rstrip()
            for one in SHOWN
            if one.text(side)
        ]
    lines += _ratios(run)
    lines += _crowds(run)
    lines += _bars(run)
    lines += [f"note: {note}" for note in run.notes]
    return "\n".join(lines)


def _start(run: Outcome) -> list[str]:
    start = run.start
    if start is None:
        return []
    rows: Sequence[tuple[str, Spread, str]] = (
        ("API ready, page to come", start.ready_s, "s"),
        ("page ready", start.page_s, "s"),
        ("at rest with the page", start.rest_mb, "MB"),
        ("API alone ready", start.api_ready_s, "s"),
        ("API alone at rest", start.api_rest_mb, "MB"),
    )
    return [
        f"  {name:32} {value.median:>10,.2f} {unit:9} {value.low:,.2f}–{value.high:,.2f}"
        for name, value, unit in rows
        if value.of
    ]


def _ratios(run: Outcome) -> list[str]:
    lines = [""] * bool(run.ratios)
    for one in run.ratios:
        if one.all is None:
            continue
        lines.append(f"{one.measure}: {one.ours} is {told(one.all)} times as fast as {one.theirs}")
        if one.equal is not None:
            lines.append(f"  where the answers are equal: {told(one.equal)}")
        if one.stored is not None:
            lines.append(f"  where all entries were stored: {told(one.stored)}")
        if one.read is not None:
            lines.append(f"  where entries were read: {told(one.read)}")
    return lines


def _crowds(run: Outcome) -> list[str]:
    crowds = run.crowds
    if crowds is None:
        return []
    lines = ["", f"{crowds.users} users"]
    for who, rounds in (("served", crowds.ours), (crowds.peer_name, crowds.peer)):
        lines += [
            f"  {who}: {one.answers_a_second:.2f} answers/s, wait {one.p50_ms:.0f} ms, p95 "
            f"{one.p95_ms:.0f} ms, {one.busy} x 503, errors {one.errors or 'none'}"
            for one in rounds
        ]
    if crowds.ceiling:
        lines.append(
            f"  ceiling {crowds.ceiling} answers/s = 1000 / ({crowds.fed} tokens fed x "
            f"{crowds.best_ms:.3g} ms a token at the best batch); reached {crowds.share:.0%}"
        )
    lines.append(f"  {crowds.mb_a_user} MB a user")
    return lines


def _bars(run: Outcome) -> list[str]:
    bars = run.bars
    return [""] * bool(bars) + [
        f"{bar.verdict:>12}: {bar.name}, {bar.bar}: {bar.reached}" for bar in bars
    ]

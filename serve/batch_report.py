"""A run of `bench --batches` as text, and as a folder: batches.json and batches.png.

Knows nothing of how anything was measured.
"""

import json
from dataclasses import asdict
from pathlib import Path

from ..agent.artifacts import atomic_folder
from ..agent.destination import BATCHES
from .batches import AtOnce, Batches
from .bench_charts import Line
from .spreads import Ratio, Spread

__all__ = ["table", "told", "write_report"]


def told(run: Batches) -> str:
    """The run as JSON."""
    return json.dumps(asdict(run), indent=1, ensure_ascii=False, default=str)


def write_report(out: Path, run: Batches) -> None:
    """Write the folder `out`, whole or not at all; the plot needs matplotlib."""
    from .bench_plots import curves

    charts = [
        ("Reading prompts", "texts at once", "tokens/s", True, _lines(run, "prefill")),
        ("Writing", "texts at once", "tokens/s", True, _lines(run, "decode")),
    ]
    with atomic_folder(out) as fresh:
        (fresh / BATCHES).write_text(told(run), encoding="utf-8")
        if run.found:
            curves(charts, fresh / "batches.png")


def table(run: Batches) -> str:
    """Everything in lines of text."""
    plan = run.plan
    lines = [
        f"{run.bot} on {run.machine.told()}, load {run.machine.load}",
        f"--device {run.device}, {run.threads} threads; prompts of {plan.read} tokens, then "
        f"{plan.write} more, one at a time; medians of {plan.rounds} rounds, least and most",
    ]
    lines += [f"STOPPED EARLY: {run.stopped}"] * bool(run.stopped)
    if run.copy_gb_a_second:
        lines.append(f"a copy moves {run.copy_gb_a_second:,.1f} GB/s (read and written)")
    for name, about in run.sides.items():
        lines += ["", f"{name}, {run.weights_mb[name]:,.1f} MB of weights  ({about})"]
        lines += [_line(one) for one in run.found if one.side == name]
    return "\n".join([*lines, *(f"note: {note}" for note in run.notes)])


def _line(one: AtOnce) -> str:
    share = "" if one.share is None else f" ({one.share:.1%} of the copy)"
    line = (
        f"  {one.batch:>3} at once: prefill {_span(one.prefill)} tokens/s, decode "
        f"{_span(one.decode)} tokens/s, a step {one.step_ms.median:,.2f} ms, "
        f"{one.gb_a_second:,.1f} GB/s{share}"
    )
    if one.decode_times is None:
        return line
    return (
        f"{line}\n       takes {_factor(one.prefill_times)} times the runtime's time to read, "
        f"{_factor(one.decode_times)} to write; {one.equal:.1%} of the tokens it chose are equal"
    )


def _span(value: Spread) -> str:
    return f"{value.median:,.0f} ({value.low:,.0f} to {value.high:,.0f})"


def _factor(value: Ratio | None) -> str:
    return "?" if value is None else f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def _lines(run: Batches, measure: str) -> list[Line]:
    return [
        Line(name, tuple((one.batch, getattr(one, measure).median) for one in own))
        for name in run.sides
        if (own := [one for one in run.found if one.side == name])
    ]

"""Bots of one FAQ whose generators differ in size, asked the same test files: quality over size.

    python tests/measure_sizes.py OUT --data TEST.jsonl [--data ...] [--speed 100] BOT [BOT ...]

Each bot is asked in a process of its own, one after another (`featherdesk evaluate`); what it was
asked already stands in OUT and is not asked again, so that a bot can be added. Prints a table and
writes OUT/sizes.json and OUT/sizes.png: megabytes of the generator (and of the entries it keeps
read), right answers of the questions in scope, raw and as sent, and questions out of scope that
were refused. The first bot is what the others are held against. With `--speed N` all generators also
answer N held questions in turn, in one run: first tokens and characters a second to the first bot's,
question by question.
"""

import hashlib
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.plots import BLUE, GREEN, GREY, saved
from featherdesk.agent.prefill import FOLDER
from featherdesk.compress.material import shipped_material
from featherdesk.compress.measure import compare, size_mb
from featherdesk.compress.measured import ratio
from featherdesk.compress.subject import find_subject


@dataclass(frozen=True)
class Sized:
    """A bot: sizes in MB, shares in points of `of` questions in scope and `out` out of it."""

    name: str
    generator_mb: float
    entries_mb: float
    raw: float
    sent: float
    refused: float
    fell_back: float
    of: int
    out: int
    first: float | None = None
    rate: float | None = None


def asked(bot: Path, test: Path, out: Path) -> dict[str, Any]:
    """The evaluation of a bot on a file, as it was kept or made now."""
    manifest = (bot / "manifest.json").read_bytes()
    name = hashlib.sha256(manifest + test.read_bytes()).hexdigest()[:16]
    kept = out / f"{bot.name}-{test.stem}-{name}.json"
    if not kept.exists():
        command = [sys.executable, "-m", "featherdesk.agent.cli", "evaluate", bot, test, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        kept.write_text(done.stdout, encoding="utf-8")
    told: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))["all"]
    return told


def sized(bot: Path, tests: tuple[Path, ...], out: Path) -> Sized:
    """What a bot comes to over all files."""
    Manifest.load(bot)
    found = [asked(bot, test, out) for test in tests]

    def share(name: str) -> tuple[float, int]:
        rates = [one[name] for one in found if name in one]
        of = sum(one["of"] for one in rates)
        return 100 * sum(one["value"] * one["of"] for one in rates) / max(1, of), of

    raw, of = share("correct_raw")
    refused, outside = share("out_of_scope_refused")
    entries = size_mb(bot / FOLDER) if (bot / FOLDER).is_dir() else 0.0
    return Sized(
        bot.name,
        size_mb(bot / "generator"),
        entries,
        raw,
        share("correct_sent")[0],
        refused,
        share("author_fallback")[0],
        of,
        outside,
    )


def timed(bots: tuple[Path, ...], rows: list[Sized], count: int) -> list[Sized]:
    """The same, with what first tokens and characters a second are to those of the first bot."""
    with tempfile.TemporaryDirectory() as scratch:
        subject = find_subject(str(bots[0]), Path(scratch))
        held = subject.material.held or shipped_material(200).held
    folders = [bot / "generator" for bot in bots]
    base, *others = found = compare(folders, held, questions=count, users=0)
    ratios = [(ratio(one, base, "first"), ratio(one, base, "rate")) for one in found]
    click.echo(f"speed: {base.questions} questions of {len(others) + 1} bots in turn", err=True)
    return [
        replace(row, first=round(first.median, 3), rate=round(rate.median, 3))
        for row, (first, rate) in zip(rows, ratios, strict=True)
    ]


def _told(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def table(rows: list[Sized]) -> str:
    """Everything, and what was lost against the first."""
    heads = "| bot | generator, MB | entries read, MB | correct raw, % | lost | as sent, % | lost |"
    more = "refused out of scope, % | fall-backs, % | first token | characters/s |"
    lines = [f"{heads} {more}", "|" + "---|" * 11]
    for one in rows:
        raw, sent = rows[0].raw - one.raw, rows[0].sent - one.sent
        lines.append(
            f"| {one.name} | {one.generator_mb:.1f} | {one.entries_mb:.1f} | {one.raw:.1f} | "
            f"{raw:.1f} | {one.sent:.1f} | {sent:.1f} | {one.refused:.1f} | {one.fell_back:.1f} | "
            f"{_told(one.first)} | {_told(one.rate)} |"
        )
    return "\n".join(lines)


def draw(rows: list[Sized], figure: Any) -> None:
    """Quality over size: raw, as sent, and out of scope refused."""
    axes = figure.add_subplot()
    ordered = sorted(rows, key=lambda one: one.generator_mb)
    sizes = [one.generator_mb for one in ordered]
    for read, name, color in (
        ("sent", "correct as sent", GREEN),
        ("raw", "correct, the model's own words", BLUE),
        ("refused", "refused where nothing answers", GREY),
    ):
        values = [getattr(one, read) for one in ordered]
        axes.plot(sizes, values, color=color, marker="o", label=name)
    last, under = -math.inf, True
    for one in ordered:
        near = one.generator_mb - last < (sizes[-1] - sizes[0]) / 10
        last, under = one.generator_mb, near and not under
        values = (one.sent, one.raw, one.refused)
        axes.annotate(
            f"{one.name}\n{one.generator_mb:.0f} MB",
            (one.generator_mb, min(values) if under else max(values)),
            (0, -8 if under else 8),
            textcoords="offset points",
            ha="center",
            va="top" if under else "bottom",
            fontsize=8,
        )
    axes.set_xlabel("MB of the generator on disk")
    axes.set_ylabel("% of the questions")
    axes.set_ylim(0, 100)
    axes.margins(x=0.1)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.argument("bots", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option(
    "--data", "tests", type=click.Path(path_type=Path, exists=True), multiple=True, required=True
)
@click.option("--speed", default=0, help="Held questions that all generators answer in turn.")
def main(out: Path, bots: tuple[Path, ...], tests: tuple[Path, ...], speed: int) -> None:
    """Ask every bot, print the table and draw it."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for bot in bots:
        click.echo(f"{bot.name} ...", err=True)
        rows.append(sized(bot, tests, out))
    rows = timed(bots, rows, speed) if speed else rows
    told = json.dumps([asdict(one) for one in rows], indent=1)
    (out / "sizes.json").write_text(told, encoding="utf-8")
    saved(out / "sizes.png", (8, 4.5), lambda figure: draw(rows, figure))
    click.echo(f"{rows[0].of} questions in scope, {rows[0].out} out of it\n\n{table(rows)}")


if __name__ == "__main__":
    main()

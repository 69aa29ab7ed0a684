"""How a bot's speed and memory grow: with entries, with the turns before, with users at once.

    python tests/measure_growth.py BOT --questions TEST.jsonl --out growth

Entries are made up (see measure_scale.py); each number of them is measured in a process of its own,
with the bot's own generator behind them. Turns and users are put to the served bot over HTTP.
Writes growth.json, growth.html and growth.png.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from featherdesk.agent.artifacts import Manifest, atomic_folder
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import open_encoder
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.index import Index
from featherdesk.agent.page import command as command_line
from featherdesk.agent.page import figure, head, safe, wrapped
from featherdesk.agent.progress import track
from featherdesk.agent.router import Router
from featherdesk.agent.types import Author, Entry, Turn
from featherdesk.serve.bench_charts import Line, lines
from featherdesk.serve.bench_plots import curves
from featherdesk.serve.crowd import crowd
from featherdesk.serve.machine import machine, peak_mb, resident_mb
from featherdesk.serve.prompts import Prompt, gather
from featherdesk.serve.served import ask, serving
from featherdesk.serve.spreads import Spread, spread

ENTRIES = (100, 1_000, 10_000, 100_000)
TURNS = (0, 1, 2, 4, 8, 16, 30)
USERS = (1, 2, 4, 8, 16, 32, 64)
ASKED = 60
_TALK = ("Hello, I have a question.", "Of course, how can I help you?")


@dataclass(frozen=True)
class Grown:
    """What was seen at one size: `at` entries, turns or users."""

    kind: str
    at: int
    routing_ms: Spread
    first_ms: Spread
    whole_ms: Spread
    answers_a_second: float
    p95_ms: float
    resident_mb: float
    peak_mb: float


def made_entries(count: int, seed: int = 5) -> list[Entry]:
    """So many entries about products that do not exist; no two questions are alike."""
    rng = random.Random(seed)
    sounds = ["ka", "ro", "mi", "ten", "vul", "sar", "do", "pel", "ni", "gra"]
    kinds = ("delivery of", "a refund for", "the warranty of", "the battery of", "spare parts for")
    made = []
    for number in range(count):
        name = f"{_word(rng, sounds)} {number}"
        question = f"How long is {rng.choice(kinds)} the {name}?"
        made.append(Entry(f"e{number}", question, f"For the {name} it is {2 + number % 28} days."))
    return made


def _word(rng: random.Random, sounds: Sequence[str]) -> str:
    return "".join(rng.choice(sounds) for _ in range(3)).capitalize()


def with_entries(bot: Path, count: int) -> Grown:
    """Routing and first words of a bot with so many entries, in this process."""
    rng = random.Random(7)
    whole = Agent.load(bot)
    encoder = open_encoder(Manifest.load(bot).encoder, bot / "encoder", 0)
    entries = made_entries(count)
    index = Index.build(entries, encoder)
    reranker = whole.router.reranker
    writes = whole.manifest.writes
    router = Router(index, calibrate(index, reranker, writes=writes), frozenset(writes), reranker)
    agent = replace(whole, router=router)
    del whole
    routing, firsts, wholes = [], [], []
    for entry in [rng.choice(entries) for _ in range(ASKED)]:
        began = time.perf_counter()
        first = 0.0
        for event in agent.stream(entry.question.replace("How long is", "how long does it take,")):
            first = first or (time.perf_counter() - began if event.delta else 0.0)
            if event.reply is not None:
                routing.append(event.reply.ms.get("route", 0.0))
                if event.reply.author is Author.MODEL and first:
                    firsts.append(1000 * first)
                    wholes.append(1000 * (time.perf_counter() - began))
    me = os.getpid()
    return Grown(
        "entries",
        count,
        spread(routing),
        spread(firsts),
        spread(wholes),
        0.0,
        0.0,
        resident_mb(me),
        peak_mb(me),
    )


def _of_entries(bot: Path, counts: Sequence[int]) -> list[Grown]:
    """Each number of entries in a process of its own, so that its memory is its own."""
    found = []
    for count in track(counts, "entries"):
        command = [sys.executable, __file__, str(bot), "--only", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise FeatherdeskError(f"{count} entries: the process ended with {done.returncode}")
        found.append(_read(json.loads(done.stdout)))
    return found


def _read(told: dict[str, Any]) -> Grown:
    spreads = ("routing_ms", "first_ms", "whole_ms")
    return Grown(**{**told, **{name: Spread(**told[name]) for name in spreads}})


def _of_turns(url: str, pid: int, prompts: Sequence[Prompt], turns: Sequence[int]) -> list[Grown]:
    """Questions behind so many turns; every length is asked before the next question is."""
    seen: dict[int, list[Any]] = {count: [] for count in turns}
    for place, prompt in enumerate(track(prompts, "turns")):
        shift = place % len(turns)
        for count in (*turns[shift:], *turns[:shift]):
            talk = [Turn("assistant" if n % 2 else "user", _TALK[n % 2]) for n in range(count)]
            seen[count].append(ask(url, prompt.question, talk))
    return [
        Grown(
            "turns",
            count,
            spread([one.route_ms for one in told]),
            spread([1000 * one.first for one in told if one.author == "model"]),
            spread([1000 * one.whole for one in told if one.author == "model"]),
            0.0,
            0.0,
            resident_mb(pid),
            peak_mb(pid),
        )
        for count, told in seen.items()
    ]


def _of_users(server: Any, prompts: Sequence[Prompt], users: Sequence[int]) -> list[Grown]:
    found = []
    for count in track(users, "users"):
        size = max(24, 3 * count)
        told = crowd(server, count, [prompts[n % len(prompts)] for n in range(size)])
        waits = Spread(told.p50_ms, told.p50_ms, told.p95_ms, told.answers)
        firsts = Spread(told.first_p50_ms, told.first_p50_ms, told.first_p95_ms, told.answers)
        found.append(
            Grown(
                "users",
                count,
                spread([]),
                firsts,
                waits,
                told.answers_a_second,
                told.p95_ms,
                told.end_mb,
                told.most_mb,
            )
        )
    return found


def charts(found: Sequence[Grown]) -> list[tuple[str, str, str, bool, list[Line]]]:
    """Curves of what grew: title, labels, whether x is logarithmic, lines."""
    made = []
    for kind, logarithmic in (("entries", True), ("turns", False), ("users", True)):
        rows = [one for one in found if one.kind == kind]
        if not rows:
            continue
        times = [
            ("routing", [(one.at, one.routing_ms.median) for one in rows if one.routing_ms.of]),
            ("first word", [(one.at, one.first_ms.median) for one in rows if one.first_ms.of]),
            ("whole answer", [(one.at, one.whole_ms.median) for one in rows if one.whole_ms.of]),
            ("whole, p95", [(one.at, one.p95_ms) for one in rows if one.p95_ms]),
        ]
        told = [Line(name, tuple(points), "result") for name, points in times if points]
        made.append((f"Times by {kind}", kind, "ms", logarithmic, told))
        memory = Line("resident", tuple((one.at, one.resident_mb) for one in rows), "base")
        made.append((f"Memory by {kind}", kind, "MB", logarithmic, [memory]))
        rates = tuple((one.at, one.answers_a_second) for one in rows if one.answers_a_second)
        if rates:
            line = Line("answers", rates, "result")
            made.append((f"Answers a second by {kind}", kind, "a second", logarithmic, [line]))
    return made


def write(out: Path, found: Sequence[Grown], command: str) -> None:
    """Write the folder, whole or not at all."""
    drawn = charts(found)
    figures = "".join(
        figure(lines(title, told, x_label, y_label, logarithmic=logarithmic), title=title)
        for title, x_label, y_label, logarithmic, told in drawn
    )
    about = machine()
    top = head("Growth", "What more of everything costs", f"On <b>{safe(about.told())}</b>.")
    body = f"{command_line(command)}<div class='grid pairs'>{figures}</div>"
    with atomic_folder(out) as fresh:
        told = {
            "command": command,
            "machine": asdict(about),
            "grown": [asdict(one) for one in found],
        }
        (fresh / "growth.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        page = wrapped("Growth", top, [("curves", "", body)], "", "growth.json")
        (fresh / "growth.html").write_text(page, encoding="utf-8")
        curves(drawn, fresh / "growth.png")


def _numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise click.BadParameter("whole numbers with commas between them") from None


@click.command()
@click.argument("bot", type=click.Path(path_type=Path))
@click.option("--questions", type=click.Path(path_type=Path), help="A test file.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--entries", callback=_numbers, default=",".join(map(str, ENTRIES)))
@click.option("--turns", callback=_numbers, default=",".join(map(str, TURNS)))
@click.option("--users", callback=_numbers, default=",".join(map(str, USERS)))
@click.option("--only", type=int, default=0, help="One number of entries, here; prints JSON.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("growth"))
def main(
    bot: Path,
    *,
    questions: Path | None,
    limit: int,
    entries: tuple[int, ...],
    turns: tuple[int, ...],
    users: tuple[int, ...],
    only: int,
    out: Path,
) -> None:
    """Measure how BOT grows; an empty list leaves a curve out."""
    if only:
        click.echo(json.dumps(asdict(with_entries(bot, only))))
        return
    found = _of_entries(bot, entries)
    if turns or users:
        prompts = gather(bot, questions, limit).prompts
        with serving(bot, "--no-page") as server:
            server.ready()
            found += _of_turns(server.url, server.pid, prompts, turns) if turns else []
            found += _of_users(server, prompts, users) if users else []
    write(out, found, f"python tests/measure_growth.py {bot} --out {out}")


if __name__ == "__main__":
    main()

"""Drives a bot over HTTP as many users at once, and says how near it comes to the ceiling.

    python tests/measure_users.py BOT --users 1 --users 8 --users 64 --seconds 60

Prints JSON. The ceiling is arithmetic: tokens really fed, times the fewest milliseconds a token that
the bare graph takes at any batch on this machine, idle but for that. `share_of_ceiling` is that over
the time that passed: the rest is routing, checking, HTTP, passes that were not full, and waiting.
Each user asks the next question of the bot's own as soon as the last one is answered; who is told
to come back (503) waits as long as told. Answers are streamed; the first word is the first released
one at the client. The answer cache is off, the store is a temporary one.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

import click
import numpy as np
from featherdesk.agent.commands import read_questions
from featherdesk.agent.config import load_config
from featherdesk.agent.decoder import Decoder
from featherdesk.agent.progress import track

PAST = 200
"""Places that stand before what is timed, about a prompt's."""


@dataclass
class Seen:
    """What the users saw; seconds."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    written: int = 0
    refused: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """One number of users. Times in seconds, `resident_mb` before and after."""

    users: int
    seconds: float
    answers: int
    written_by_the_model: int
    refused: int
    errors: int
    answers_per_s: float
    first_word_p50: float
    first_word_p95: float
    answer_p50: float
    answer_p95: float
    queue_mean: float
    tokens_fed: int
    passes: int
    requests_a_pass: float
    tokens_a_pass: float
    share_of_time_in_passes: float
    share_of_blocks_stored: float
    resident_mb: tuple[float, float]
    best_ms_a_token: float
    seconds_at_the_ceiling: float
    answers_per_s_at_the_ceiling: float
    share_of_ceiling: float


def costs(bot: Path, rows: int) -> dict[str, float]:
    """Median ms a token of the bare graph: `rows=n` one token each, `tokens=n` of one row."""
    config = load_config(bot / "bot.toml").generation
    decoder = Decoder(bot / "generator", config.threads)
    decoder.reserve(rows, PAST + 128)
    for row in range(rows):
        decoder.alone(row, [5] * PAST, 0)
    batches = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < rows] + [rows]
    taken: dict[str, list[float]] = {}
    for _ in track(range(15), "timing the graph"):
        for n in batches:
            began = time.perf_counter()
            decoder.together(0, [(5, PAST)] * n)
            taken.setdefault(f"rows={n}", []).append((time.perf_counter() - began) * 1000 / n)
        for n in (2, 4, 8, 16, 32, 64):
            began = time.perf_counter()
            decoder.alone(0, [5] * n, PAST)
            taken.setdefault(f"tokens={n}", []).append((time.perf_counter() - began) * 1000 / n)
    return {name: round(statistics.median(told), 3) for name, told in taken.items()}


def scraped(url: str) -> dict[str, float]:
    """The metrics by name."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


def ask(url: str, question: str, user: str, seen: Seen) -> float:
    """One streamed question; returns the seconds to wait before the next."""
    told = {"stream": True, "user": user, "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(told).encode(),
        {"content-type": "application/json"},
    )
    began, first, author = time.perf_counter(), None, ""
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    seen.errors.append(chunk["error"]["message"])
                    return 0.0
                if first is None and chunk["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - began
                author = chunk.get("featherdesk", {}).get("author", author)
    except urllib.error.HTTPError as error:
        if error.code != 503:
            seen.errors.append(f"{error.code}")
            return 0.0
        seen.refused += 1
        return float(error.headers["Retry-After"])
    except OSError as error:
        seen.errors.append(str(error))
        return 1.0
    seen.first.append(first or time.perf_counter() - began)
    seen.whole.append(time.perf_counter() - began)
    seen.written += author == "model"
    return 0.0


def drive(
    url: str, pid: int, questions: Sequence[str], users: int, seconds: float, best: float
) -> Measured:
    """So many users for so long."""
    for question in questions[: min(8, len(questions))]:
        ask(url, question, "warm", Seen())
    seen, numbers = Seen(), count()
    before, resident, began = scraped(url), resident_mb(pid), time.perf_counter()

    def user(name: str) -> None:
        while time.perf_counter() - began < seconds:
            question = questions[next(numbers) % len(questions)]
            time.sleep(min(ask(url, question, name, seen), seconds))

    threads = [threading.Thread(target=user, args=(f"u{n}",)) for n in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, after = time.perf_counter() - began, scraped(url)
    return summary(users, taken, seen, before, after, (resident, resident_mb(pid)), best)


def summary(
    users: int,
    taken: float,
    seen: Seen,
    before: dict[str, float],
    after: dict[str, float],
    resident: tuple[float, float],
    best: float,
) -> Measured:
    """The figures, and the arithmetic of the ceiling."""

    def more(name: str) -> float:
        return after.get(f"featherdesk_{name}", 0.0) - before.get(f"featherdesk_{name}", 0.0)

    tokens, passes = more("pass_tokens_sum"), more("pass_tokens_count")
    stored, anew = more('blocks_total{stored="yes"}'), more('blocks_total{stored="no"}')
    answers, ceiling = len(seen.whole), tokens * best / 1000
    return Measured(
        users=users,
        seconds=round(taken, 2),
        answers=answers,
        written_by_the_model=seen.written,
        refused=seen.refused,
        errors=len(seen.errors),
        answers_per_s=round(answers / taken, 3),
        first_word_p50=at(seen.first, 50),
        first_word_p95=at(seen.first, 95),
        answer_p50=at(seen.whole, 50),
        answer_p95=at(seen.whole, 95),
        queue_mean=over(more("wait_seconds_sum"), more("wait_seconds_count")),
        tokens_fed=int(tokens),
        passes=int(passes),
        requests_a_pass=over(more("pass_requests_sum"), passes),
        tokens_a_pass=over(tokens, passes),
        share_of_time_in_passes=over(more("pass_seconds_total"), taken),
        share_of_blocks_stored=over(stored, stored + anew),
        resident_mb=(round(resident[0], 1), round(resident[1], 1)),
        best_ms_a_token=best,
        seconds_at_the_ceiling=round(ceiling, 3),
        answers_per_s_at_the_ceiling=over(answers, ceiling),
        share_of_ceiling=over(ceiling, taken),
    )


def at(values: Sequence[float], percent: int) -> float:
    """A percentile."""
    return round(float(np.percentile(values, percent)), 3) if values else float("nan")


def over(part: float, whole: float) -> float:
    """A ratio; 0 of nothing."""
    return round(part / whole, 3) if whole else 0.0


@contextmanager
def server(bot: Path) -> Iterator[tuple[str, int]]:
    """The bot, served by a child process: its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "featherdesk.agent.cli", "serve", str(bot), "--no-page"]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **os.environ,
            "FEATHERDESK_GENERATION_CACHED": "0",  # who asks again is not answered from memory
            "FEATHERDESK_STORAGE_URL": f"sqlite:///{scratch}/asked.db",
        }
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=subprocess.DEVNULL, env=environment
        )
        try:
            while process.poll() is None:
                with suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2):
                    break
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)


def asked_of(bot: Path, file: Path | None) -> list[str]:
    """The questions of a test file, else the bot's own in other words."""
    if file is not None:
        return [row["question"] for _, row in read_questions(file) if not row.get("out_of_scope")]
    lines = (bot / "knowledge" / "entries.jsonl").read_text(encoding="utf-8").splitlines()
    return [(one["variants"] or [one["question"]])[0] for one in map(json.loads, lines)]


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@click.command()
@click.argument("bot", type=click.Path(path_type=Path, exists=True))
@click.option("--users", type=click.IntRange(1), multiple=True, default=(1, 8, 64))
@click.option("--seconds", type=float, default=60.0, show_default=True)
@click.option("--questions", type=click.Path(path_type=Path), help="A test file [own wordings].")
def main(bot: Path, users: tuple[int, ...], seconds: float, questions: Path | None) -> None:
    """Print one JSON object."""
    batch = load_config(bot / "bot.toml").generation.batch
    ms = costs(bot, batch)
    best = min(ms.values())
    measured = []
    for number in users:
        with server(bot) as (url, pid):
            asked = asked_of(bot, questions)
            measured.append(asdict(drive(url, pid, asked, number, seconds, best)))
            print(f"{number} users: done", file=sys.stderr)
    arithmetic = "share_of_ceiling = tokens_fed x best_ms_a_token / 1000 / seconds"
    told = {"batch": batch, "ms_a_token": ms, "arithmetic": arithmetic, "users": measured}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

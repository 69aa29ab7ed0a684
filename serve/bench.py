"""`featherdesk bench`: measures a served bot from outside, as a client sees it.

Starts the server as a child process, asks the bot's own questions over HTTP, and reads the
server's memory from the system. Knows nothing of how replies are made.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ..agent.artifacts import Manifest
from ..agent.errors import FeatherdeskError
from ..agent.progress import track

__all__ = ["bench"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median with minimum and maximum of a measure."""

    median: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: times in ms, memory and sizes in MB, rates in characters a second."""

    api_ready_s: float
    page_ready_s: float
    resident_mb: float
    generator_mb: float
    first_token_ms: Spread
    answer_ms: Spread
    routing_ms: Spread
    characters_per_s: Spread
    model_written: int
    questions: int


@click.command()
@click.argument("bot", type=click.Path(path_type=Path))
@click.option("--questions", type=click.Path(path_type=Path), help="A test file [own wordings].")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(bot: Path, *, questions: Path | None, limit: int, as_json: bool) -> None:
    """Cold start, memory, time to first token and whole answers of a bot."""
    Manifest.load(bot)
    asked = _questions(bot, questions)[:limit]
    measured = _measure(bot, asked)
    if as_json:
        click.echo(json.dumps(asdict(measured), indent=1))
        return
    for name, value in asdict(measured).items():
        told = (
            f"{value['median']:.1f}  (min {value['low']:.1f}, max {value['high']:.1f}, "
            f"of {value['of']})"
            if isinstance(value, dict)
            else f"{value:.1f}"
        )
        click.echo(f"{name:18} {told}")


def _questions(bot: Path, given: Path | None) -> list[str]:
    if given is not None:
        from ..agent.commands import read_questions

        return [row["question"] for _, row in read_questions(given) if not row.get("out_of_scope")]
    lines = (bot / "knowledge" / "entries.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [entry["variants"][0] for entry in entries if entry["variants"]] or [
        entry["question"] for entry in entries
    ]


@contextmanager
def _served(bot: Path) -> Iterator[tuple[str, int, float]]:
    """A server in a child process: its address, process id and start time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "featherdesk.agent.cli", "serve", str(bot), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "FEATHERDESK_GENERATION_CACHED": "0"},
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid, began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def _measure(bot: Path, asked: Sequence[str]) -> Measured:
    with _served(bot) as (url, pid, began):
        api = _wait(f"{url}/readyz", began, b"ready")
        page = _wait(f"{url}/readyz", began, b'"page":true')
        time.sleep(2)
        resident = _resident_mb(pid)
        first, whole, routing, rate = [], [], [], []
        for question in track(asked, "asking"):
            told = _ask(url, question)
            routing.append(told.route_ms)
            if told.author == "model" and told.first_ms is not None:
                first.append(told.first_ms)
                whole.append(told.total_ms)
                rate.append(told.characters / told.total_ms * 1000)
    generator = sum(p.stat().st_size for p in (bot / "generator").iterdir()) / 1e6
    return Measured(
        round(api, 2),
        round(page, 2),
        round(resident, 1),
        round(generator, 1),
        _spread(first),
        _spread(whole),
        _spread(routing),
        _spread(rate),
        len(first),
        len(asked),
    )


@dataclass(frozen=True, slots=True)
class _Told:
    author: str
    first_ms: float | None
    total_ms: float
    route_ms: float
    characters: int


def _ask(url: str, question: str) -> _Told:
    """One streamed question; the first token is the first released word at the client."""
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": question}]})
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body.encode(), {"content-type": "application/json"}
    )
    began = time.perf_counter()
    first: float | None = None
    receipt: dict[str, Any] = {}
    characters = 0
    with urllib.request.urlopen(request, timeout=120) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            text = chunk["choices"][0]["delta"].get("content")
            if text:
                first = first if first is not None else (time.perf_counter() - began) * 1000
                characters += len(text)
            receipt = chunk.get("featherdesk", receipt)
    return _Told(
        receipt["author"] if receipt["route"] == "answer" else "curated",
        first,
        (time.perf_counter() - began) * 1000,
        receipt["ms"].get("route", 0.0),
        characters,
    )


def _wait(url: str, began: float, wanted: bytes) -> float:
    """Seconds from the start until an address answers with `wanted`."""
    while time.monotonic() - began < 120:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if wanted in answer.read():
                    return time.monotonic() - began
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise FeatherdeskError("the server did not come up in two minutes")


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(float("nan"), float("nan"), float("nan"), 0)
    return Spread(
        round(statistics.median(values), 1),
        round(min(values), 1),
        round(max(values), 1),
        len(values),
    )

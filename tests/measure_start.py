"""Measures how fast a bot's server is ready, and what memory it holds.

    python tests/measure_start.py BOT [--no-page] [--answers 1 10 100] [--starts 3]

Prints JSON: seconds from the start of the process until `/readyz` answers and until the chat page
is there (median, least, most of several starts); resident memory at rest and behind so many
answers, in MB of 10^6 bytes, of which `anonymous` is the server's own and the rest are pages of
files that the system may take back; and, from a second process that opens one part after another,
what each part takes: seconds, and anonymous and mapped memory. Asks the bot's own wordings over
HTTP; the answer cache is off, the store is a temporary one.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featherdesk.agent.engine import Agent

PATIENCE = 900.0
REST = 3.0
"""Seconds of quiet before memory counts as being at rest."""


def memory(process: int | str = "self") -> dict[str, float]:
    """Resident memory of a process in MB, and the part of it that no file stands behind."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    names = {"resident": "VmRSS", "anonymous": "RssAnon"}
    return {name: round(int(told[key].split()[0]) * 1024 / 1e6, 1) for name, key in names.items()}


@contextmanager
def served(bot: Path, *options: str) -> Iterator[tuple[str, int, float]]:
    """A server in a child process: its address, process id and start time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "featherdesk.agent.cli", "serve", str(bot)]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **os.environ,
            "FEATHERDESK_GENERATION_CACHED": "0",
            "FEATHERDESK_STORAGE_URL": f"sqlite:///{scratch}/asked.db",
            "FEATHERDESK_STORAGE_REDACT_NAMES": "off",
        }
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, "--port", str(port), "--accept-refused", *options],
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        try:
            yield f"http://127.0.0.1:{port}", process.pid, began
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=PATIENCE)


def ready(url: str, began: float, wanted: Callable[[dict[str, Any]], bool]) -> float:
    """Seconds from the start until `/readyz` tells what is wanted."""
    while time.monotonic() - began < PATIENCE:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                if wanted(json.loads(answer.read())):
                    return round(time.monotonic() - began, 2)
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.02)
    raise SystemExit(f"the server was not ready after {PATIENCE:.0f} s")


def ask(url: str, question: str) -> str:
    """Ask one question; who wrote the reply."""
    body = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(json.loads(answer.read())["featherdesk"]["author"])


def wordings(bot: Path) -> list[str]:
    """The last wording of every entry of a bot."""
    lines = (bot / "knowledge" / "entries.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [(entry["variants"] or [entry["question"]])[-1] for entry in entries]


def start(bot: Path, *, page: bool, answers: Sequence[int]) -> dict[str, Any]:
    """One start of the server, with the answers that are to be given."""
    options = () if page else ("--no-page",)
    with served(bot, *options) as (url, process, began):
        told: dict[str, Any] = {"ready_s": ready(url, began, lambda _: True)}
        if page:
            told["page_s"] = ready(url, began, lambda now: bool(now["page"]))
        time.sleep(REST)
        told["rest_mb"] = memory(process)
        asked, count, authors = wordings(bot), 0, []
        for wanted in sorted(answers):
            while count < wanted:
                authors.append(ask(url, asked[count % len(asked)]))
                count += 1
            told.setdefault("answers_mb", {})[str(wanted)] = memory(process)
        told["authors"] = {author: authors.count(author) for author in set(authors)}
    return told


def parts(bot: Path, *, page: bool) -> dict[str, dict[str, float]]:
    """What each part takes, opened one after the other in this process.

    The multilingual encoder loads its model at its first use: that stands at `first question`.
    """
    told: dict[str, dict[str, float]] = {}
    seen, began = memory(), time.perf_counter()

    def took(name: str) -> None:
        nonlocal seen, began
        now = memory()
        anonymous = now["anonymous"] - seen["anonymous"]
        told[name] = {
            "s": round(time.perf_counter() - began, 3),
            "anonymous_mb": round(anonymous, 1),
            "mapped_mb": round(now["resident"] - seen["resident"] - anonymous, 1),
        }
        seen, began = now, time.perf_counter()

    from featherdesk.serve import api, live  # noqa: F401 - what they import is measured

    took("imports")
    agent = opened(bot, took)
    agent.warm()
    took("first question")
    if page:
        from featherdesk.serve import chat  # noqa: F401 - what it imports is measured

        took("page (imports)")
    return told


def opened(bot: Path, took: Callable[[str], None]) -> "Agent":
    """The agent of a bot folder, made of parts that are opened one by one."""
    from featherdesk.agent.artifacts import Manifest, verify
    from featherdesk.agent.calibration import Calibration
    from featherdesk.agent.config import load_config
    from featherdesk.agent.cores import available_cores
    from featherdesk.agent.encoder import open_encoder
    from featherdesk.agent.engine import Agent
    from featherdesk.agent.guards import load_guards
    from featherdesk.agent.index import Index
    from featherdesk.agent.prefill import open_store
    from featherdesk.agent.reranker import CrossEncoder
    from featherdesk.agent.router import Router
    from featherdesk.agent.runtime import OnnxGenerator

    manifest, cores = Manifest.load(bot), available_cores()
    verify(bot, manifest)
    took("verifying")
    encoder = open_encoder(manifest.encoder, bot / "encoder", cores)
    took("encoder")
    index = Index.load(bot / "knowledge", encoder)
    calibration = Calibration.load(bot / "knowledge" / "calibration.json")
    took("index")
    second = None
    if manifest.reranker:
        second = CrossEncoder(bot / "reranker", cores, manifest.reranker)
        took("reranker")
    config, generator = load_config(bot / "bot.toml"), None
    if manifest.writes:
        store = open_store(bot, config.generation.stored_mb) if manifest.blocks else None
        generator = OnnxGenerator(bot / "generator", cores, store=store)
        took("generator")
    guards = load_guards(config)
    took("guards")
    router = Router(index, calibration, frozenset(manifest.writes), second)
    return Agent(router, generator, config, manifest, bot, guards=guards)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it is printed."""
    page = not given.no_page
    first = start(given.bot, page=page, answers=given.answers)
    more = [start(given.bot, page=page, answers=()) for _ in range(given.starts - 1)]
    child = [sys.executable, __file__, str(given.bot), "--parts"]
    found = subprocess.run(
        [*child, *(["--no-page"] if given.no_page else [])], stdout=subprocess.PIPE, check=True
    )
    clocks = {
        name: spread([one[name] for one in (first, *more)])
        for name in ("ready_s", "page_s")
        if name in first
    }
    return {
        "command": " ".join(["python", *sys.argv]),
        **clocks,
        "rest_mb": first["rest_mb"],
        "answers_mb": first.get("answers_mb", {}),
        "authors": first["authors"],
        "parts": json.loads(found.stdout),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bot", type=Path)
    parser.add_argument("--no-page", action="store_true", help="the API only")
    parser.add_argument("--answers", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--parts", action="store_true", help="only what each part takes")
    given = parser.parse_args()
    told = parts(given.bot, page=not given.no_page) if given.parts else measured(given)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

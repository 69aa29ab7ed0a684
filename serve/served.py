"""A bot served in a process of its own, asked over HTTP as a client asks it.

Knows nothing of how replies are made.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..agent.errors import FeatherdeskError
from ..agent.loopback import open_local
from ..agent.types import Turn

__all__ = ["Busy", "Heard", "Server", "ask", "serving"]

_PATIENCE = 300.0
_NO_CACHE = {"FEATHERDESK_GENERATION_CACHED": "0"}
"""Takes the answer cache away: a reply from it tells nothing of the model."""


class Busy(Exception):  # noqa: N818 - no error: the server says when to come again
    """The server answered 503; `retry_after` are seconds, None where it did not tell."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__("the server is busy")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Heard:
    """A streamed reply at the client. Seconds from the question: `first` to the first released
    word (that of the end, where nothing was released), `whole` to the last, `closed` to the end
    of the stream. `prompt` and `tokens` are what the model read and wrote."""

    text: str
    first: float
    whole: float
    closed: float
    prompt: int
    tokens: int
    author: str
    route: str
    route_ms: float


@dataclass(slots=True)
class Server:
    """`featherdesk serve` in a child process."""

    url: str
    process: "subprocess.Popen[bytes]"
    began: float
    log: IO[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ready(self, wanted: bytes = b"ready") -> float:
        """Seconds from the start until /readyz answers with `wanted`.

        Raises:
            FeatherdeskError: it did not in five minutes, or the server ended.
        """
        while time.monotonic() - self.began < _PATIENCE:
            try:
                with open_local(f"{self.url}/readyz", 2) as answer:
                    if wanted in answer.read():
                        return time.monotonic() - self.began
            except OSError:
                pass
            if self.process.poll() is not None:
                raise FeatherdeskError(f"the server ended at its start: {self._said()}")
            time.sleep(0.02)
        raise FeatherdeskError(f"the server did not come up in five minutes: {self._said()}")

    def _said(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"


@contextmanager
def serving(bot: Path, *options: str, threads: int = 0) -> Iterator[Server]:
    """A server of a bot on a free port; its conversations go to a file that is thrown away.

    `threads` 0 leaves them to its bot.toml.
    """
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as log:
        port = _free_port()
        command = [sys.executable, "-m", "featherdesk.agent.cli", "serve", str(bot)]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, "--port", str(port), *options],
            env=_environment(Path(scratch), threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield Server(f"http://127.0.0.1:{port}", process, began, log)
        finally:
            _end(process)


def _environment(scratch: Path, threads: int) -> dict[str, str]:
    told = {name: value for name, value in os.environ.items() if name != "FEATHERDESK_API_KEY"}
    told["FEATHERDESK_STORAGE_URL"] = f"sqlite:///{scratch / 'bench.db'}"
    if threads:
        told["FEATHERDESK_GENERATION_THREADS"] = str(threads)
    return {**told, **_NO_CACHE}


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, question: str, history: Sequence[Turn] = ()) -> Heard:
    """One streamed question.

    Raises:
        Busy: the server answered 503.
        FeatherdeskError: it answered with another error, or the line broke.
    """
    turns = [{"role": turn.role, "content": turn.content} for turn in history]
    body = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [*turns, {"role": "user", "content": question}],
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        began = time.perf_counter()
        with open_local(request, _PATIENCE) as answer:
            return _heard(answer, began)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 503:
                raise Busy(_seconds(error.headers.get("Retry-After"))) from None
            raise FeatherdeskError(f"the server answered {error.code}: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise FeatherdeskError(f"the server did not answer ({error})") from None


def _heard(lines: Any, began: float) -> Heard:
    """Take a stream of server-sent events in."""
    text, first, last = "", 0.0, 0.0
    receipt: Mapping[str, Any] = {}
    usage: Mapping[str, int] = {}
    for line in lines:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise FeatherdeskError(f"the server said: {chunk['error']['message']}")
        delta = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
        if delta:
            last = time.perf_counter() - began
            first = first or last
            text += delta
        receipt, usage = chunk.get("featherdesk", receipt), chunk.get("usage", usage)
    closed = time.perf_counter() - began
    if not receipt:
        raise FeatherdeskError("the stream ended before the reply did")
    return Heard(
        text.strip(),
        first or closed,
        last or closed,
        closed,
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
        "cache" if receipt.get("cached") else receipt["author"],
        receipt["route"],
        receipt["ms"].get("route", 0.0),
    )


def _seconds(told: str | None) -> float | None:
    try:
        return float(told or "")
    except ValueError:
        return None

"""Asks a bot as its users do: `featherdesk serve` in a child process, HTTP in, JSON out.

Replies are kept, by what the bot is made of and what it was asked, in the cache: the parent of
many artefacts is asked once, and what was interrupted goes on. Knows nothing of right and wrong.
"""

import hashlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from ..agent.artifacts import Manifest, cache_root
from ..agent.config import load_config
from ..agent.errors import FeatherdeskError
from ..agent.evaluate import Case, Told
from ..agent.loopback import open_local
from ..agent.progress import track
from ..agent.types import Author, RouteKind, Turn
from .tether import tethered

__all__ = [
    "Asked",
    "LoadError",
    "Received",
    "Replies",
    "agent_code",
    "ask_bot",
    "identity",
    "libraries",
    "serve_command",
]

_LOADING, _ANSWERING = 240, 180
"""Seconds a server may take to come up, and to answer."""

_STILL = {
    "FEATHERDESK_GENERATION_CACHED": "0",
    "FEATHERDESK_GENERATION_TIMEOUT": str(_ANSWERING - 10),
    "FEATHERDESK_HANDOFF_WEBHOOK": "",
    "FEATHERDESK_HANDOFF_SMTP_HOST": "",
    "FEATHERDESK_STORAGE_REDACT_NAMES": "off",
}
"""What a bot does not do while it is tested: answer from memory, give up because the machine is
busy, or call people."""

_MACHINE = ("out of memory", "free space", "choose another with --port", "is not installed")
"""What a server says at its end that tells nothing of the bot."""

_NO_STORE = {"FEATHERDESK_STORAGE_URL": ""}
"""Where conversations are kept decides nothing."""

_COMPUTES = (
    "featherdesk",
    "bm25s",
    "numpy",
    "onnxruntime",
    "onnxruntime-genai",
    "onnxruntime-gpu",
    "tokenizers",
    "usearch",
)
"""Packages whose next version may answer otherwise."""


class LoadError(FeatherdeskError):
    """A bot's server ended by itself before it was ready; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question after its conversation."""

    question: str
    history: tuple[Turn, ...] = ()

    @classmethod
    def of(cls, case: Case) -> "Asked":
        """What a test row asks."""
        return cls(case.question, case.history)

    @property
    def messages(self) -> list[dict[str, str]]:
        """As an OpenAI-style request sends it."""
        turns = [{"role": turn.role, "content": turn.content} for turn in self.history]
        return [*turns, {"role": "user", "content": self.question}]


@dataclass(frozen=True, slots=True)
class Received:
    """A reply as it came over HTTP: what is judged of it, and the tokens the model wrote.

    `error` is what the server said instead of a reply.
    """

    told: Told
    tokens: int = 0
    error: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Received":
        """The reply of a whole (not streamed) completion."""
        receipt = data["featherdesk"]
        told = Told(
            RouteKind(receipt["route"]),
            Author(receipt["author"]),
            str(receipt["text"]),
            str(receipt["raw_text"]),
            tuple(str(one["entry_id"]) for one in receipt["candidates"]),
            tuple(str(name) for name in receipt["passed"]),
            tuple(str(one["entry_id"]) for one in receipt["citations"]),
            int(receipt["parts"]),
        )
        return cls(told, int(data.get("usage", {}).get("completion_tokens", 0)))

    @classmethod
    def failed(cls, error: str) -> "Received":
        """No reply: nothing was answered."""
        return cls(Told(RouteKind.HANDOFF, Author.CURATED, "", "", (), (), ()), 0, error)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Received":
        """What `asdict` made of one."""
        told = dict(data["told"])
        for name in ("ranked", "passed", "cited"):
            told[name] = tuple(told[name])
        told["route"], told["author"] = RouteKind(told["route"]), Author(told["author"])
        return cls(Told(**told), int(data["tokens"]), str(data["error"]))


def identity(folder: Path) -> str:
    """Names what answers: the bot's files, what its manifest decides, its settings as the
    environment changes them, the code of `agent`, and the libraries that compute.

    The code of `serve` stands for its version: it carries replies and makes none.
    """
    manifest = Manifest.load(folder)
    decides = [
        manifest.files,
        manifest.refusal,
        manifest.refusal_slope,
        manifest.writes,
        manifest.reranker,
        asdict(load_config(folder / "bot.toml", {**os.environ, **_STILL, **_NO_STORE})),
        libraries(),
    ]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode())
    for data in agent_code():
        digest.update(data)
    return digest.hexdigest()


def agent_code() -> Iterator[bytes]:
    """The files of `agent`, in order: the code that answers."""
    package = files(__package__.rpartition(".")[0]) / "agent"
    for item in sorted(package.iterdir(), key=lambda item: item.name):
        if item.is_file():
            yield item.read_bytes()


def libraries(*more: str) -> list[str]:
    """The versions of the packages that compute, and of `more`."""
    return [_version(name) for name in (*_COMPUTES, *more)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


class Replies:
    """The kept replies of one bot: a JSONL file that only grows. `gone` names its entries that
    have expired: it answers otherwise since."""

    def __init__(self, bot: str, folder: Path | None = None, gone: Sequence[str] = ()) -> None:
        if gone:
            bot = hashlib.sha256(" ".join([bot, *gone]).encode()).hexdigest()
        self._bot = bot
        self._path = (folder or cache_root() / "gate") / f"{bot[:24]}.jsonl"
        self._known: dict[str, Received] = {}
        if not self._path.exists():
            return
        for line in self._path.read_bytes().split(b"\n"):
            try:
                told = json.loads(line)
                self._known[told["key"]] = Received.from_json(told["reply"])
            except (ValueError, KeyError, TypeError):  # the last line of an interrupted run
                continue

    def get(self, asked: Asked) -> Received | None:
        """The kept reply to a question."""
        return self._known.get(self._key(asked))

    def keep(self, asked: Asked, reply: Received) -> None:
        """Keep a reply; one that failed is asked for again the next time."""
        key = self._key(asked)
        self._known[key] = reply
        if reply.error:
            return
        line = json.dumps({"key": key, "reply": asdict(reply)}, ensure_ascii=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(("" if self._whole() else "\n") + line + "\n")
        except OSError as error:
            raise FeatherdeskError(
                f"{self._path} cannot be written: {error.strerror}; free space and run the same "
                "command again: replies so far are kept"
            ) from None

    def forget(self) -> None:
        """Drop all that is kept of this bot."""
        self._known.clear()
        self._path.unlink(missing_ok=True)

    def _whole(self) -> bool:
        """Whether the file ends with a line break, or is empty."""
        if not self._path.exists() or self._path.stat().st_size == 0:
            return True
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _key(self, asked: Asked) -> str:
        told = json.dumps([self._bot, asked.messages], ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()


Command = Callable[[Path, int], list[str]]


def serve_command(folder: Path, port: int) -> list[str]:
    """The command line that serves a bot folder, refused or not, until its stdin is closed."""
    options = ["--port", str(port), "--no-page", "--accept-refused"]
    return tethered("featherdesk.agent.cli", "serve", str(folder), *options)


def ask_bot(
    folder: Path,
    questions: Sequence[Asked],
    replies: Replies,
    *,
    name: str = "bot",
    command: Command = serve_command,
) -> list[Received]:
    """The replies of a bot to all questions, in order; the server runs only if one is missing.

    Raises:
        LoadError: the server ended by itself before it was ready.
        FeatherdeskError: it was killed, or stopped answering; replies so far are kept.
    """
    missing = [asked for asked in dict.fromkeys(questions) if replies.get(asked) is None]
    if missing:
        with _serving(folder, command) as (url, process):
            for asked in track(missing, f"asking the {name}"):
                replies.keep(asked, _ask(url, asked, process))
    found = [replies.get(asked) for asked in questions]
    return [reply for reply in found if reply is not None]


def _ask(url: str, asked: Asked, process: "subprocess.Popen[bytes]") -> Received:
    body = json.dumps({"messages": asked.messages}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    try:
        with open_local(request, _ANSWERING) as answer:
            return Received.of(json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Received.failed(f"{error.code}: {error.read()[:300].decode(errors='replace')}")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        if process.poll() is not None:
            raise FeatherdeskError(
                "the bot's server ended while it was asked (out of memory?); close other programs "
                "and run the same command again: replies so far are kept"
            ) from None
        raise FeatherdeskError(
            f"the bot's server gave no reply that can be read ({error}); run the same command "
            "again: replies so far are kept"
        ) from None


@contextmanager
def _serving(folder: Path, command: Command) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A server with a store of its own, which goes with it: its address and process."""
    with tempfile.TemporaryDirectory(prefix="featherdesk-gate-") as scratch:
        environment = {**os.environ, **_STILL}
        environment.pop("FEATHERDESK_API_KEY", None)
        environment["FEATHERDESK_STORAGE_URL"] = f"sqlite:///{Path(scratch).as_posix()}/asked.db"
        port = _free_port()
        with (Path(scratch) / "log").open("w+b") as log:
            process = subprocess.Popen(
                command(folder, port),
                stdin=subprocess.PIPE,  # closed with this process, whatever ends it
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
            )
            try:
                url = f"http://127.0.0.1:{port}"
                _wait(url, folder, process, log)
                yield url, process
            finally:
                _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, folder: Path, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Until the server is ready."""
    until = time.monotonic() + _LOADING
    while time.monotonic() < until:
        if (code := process.poll()) is not None:
            if code < 0:  # says nothing of the bot
                raise FeatherdeskError(
                    f"{folder}: the server was killed by signal {-code} while it loaded (out of "
                    "memory?); close other programs and run the same command again"
                )
            said = _said(log) or f"the server ended with {code}"
            if any(sign in said for sign in _MACHINE):
                raise FeatherdeskError(f"{folder} was not started: {said}")
            raise LoadError(said)
        try:
            with open_local(f"{url}/readyz", 5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise FeatherdeskError(f"{folder}: the server was not ready after {_LOADING} s")


def _said(log: IO[bytes]) -> str:
    """The last line of a server's stderr."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("error: ") if lines else ""


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()

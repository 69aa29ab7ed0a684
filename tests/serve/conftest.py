"""A small real bot with the shipped generator, and a server in a child process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from featherdesk.agent.conversations import Store
from featherdesk.agent.engine import Agent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`featherdesk serve` on a free port."""

    def __init__(self, bot: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "featherdesk.agent.cli",
                "serve",
                str(bot),
                "--port",
                str(self.port),
                *options,
            ],
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self, *, page: bool) -> "Server":
        for _ in range(240):
            try:
                told = httpx.get(f"{self.url}/readyz", timeout=2).json()
                if told["page"] or not page:
                    return self
            except httpx.TransportError:
                assert self.process.poll() is None, self.process.stdout.read()  # type: ignore[union-attr]
            time.sleep(0.25)
        raise AssertionError("the server did not come up")

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=30)
        return out


@pytest.fixture(scope="session")
def shop(sample_bot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample bot with a store of its own."""
    import shutil

    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(sample_bot, folder / "bot")
    return folder / "bot"


@pytest.fixture(scope="session")
def start() -> type[Server]:
    """Starts further servers."""
    return Server


@pytest.fixture(scope="session")
def server(shop: Path) -> Iterator[Server]:
    running = Server(shop).wait(page=True)
    yield running
    running.stop()


@dataclass
class Bot:
    """What the entrances need of a live bot."""

    agent: Agent
    store: Store


@pytest.fixture
def bot_of(agent_of: Callable[..., Agent], tmp_path: Path) -> Iterator[Callable[..., Bot]]:
    """Makes bots over the five entries whose model writes what is given."""
    store = Store(f"sqlite:///{tmp_path / 'c.db'}")
    yield lambda answer: Bot(agent_of(answer), store)
    store.close()


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture
def serving() -> Iterator[Callable[[Any], str]]:
    """Serves an ASGI app in this process, and says where."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_serving(app))


@contextmanager
def mcp_over_http(bot: Path, key: str) -> Iterator[str]:
    """`featherdesk mcp --http` in a child process: its address."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "featherdesk.agent.cli",
            "mcp",
            str(bot),
            "--http",
            "--port",
            "0",
        ],
        env={**os.environ, "FEATHERDESK_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = child.stdout.readline()  # type: ignore[union-attr]
    assert "/mcp" in said, child.stderr.read()  # type: ignore[union-attr]
    yield said.split()[-1]
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert not key or key not in errors
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def mcp_url(shop: Path) -> Iterator[str]:
    """The address of a bot served as tools, without a key."""
    with mcp_over_http(shop, "") as url:
        yield url


@pytest.fixture(scope="module")
def keyed_mcp_url(shop: Path) -> Iterator[str]:
    """The address of one that asks for the key `s3cret`."""
    with mcp_over_http(shop, "s3cret") as url:
        yield url


@pytest.fixture(scope="session")
def tiny_bot(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    """A bot over the five entries whose made-up model writes one short answer to everything."""
    from .tiny_bot import ENTRIES, make_bot, make_generator

    folder = tmp_path_factory.mktemp("tiny")
    return make_bot(folder / "bot", encoder_folder, ENTRIES, make_generator(folder / "generator"))

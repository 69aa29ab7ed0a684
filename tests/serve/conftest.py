"""A small real bot with the shipped generator, and a server in a child process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


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

"""Shared fixtures: a small FAQ, tiny models made on the spot, the real sample bot."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import BusyError, GenerationError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.router import Router
from featherdesk.agent.runtime import Step
from featherdesk.agent.stages import BotConfig
from featherdesk.agent.types import Entry
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOT = Path(__file__).resolve().parents[1]
ENTRIES = (
    Entry(
        "delivery",
        "How long does delivery take?",
        "Standard delivery takes 3 to 5 working days and costs £4.95.",
        ("when will my parcel arrive", "delivery time", "how many days until it comes"),
    ),
    Entry(
        "worn",
        "Can I return worn boots?",
        "No, worn boots cannot be returned. Unworn boots can be returned within 30 days.",
        ("send back used boots", "return boots I walked in"),
    ),
    Entry(
        "pay",
        "How can I pay?",
        "We accept Visa, Mastercard and PayPal.",
        ("payment methods", "which cards do you take", "can I use paypal"),
    ),
    Entry(
        "hours",
        "When is the York store open?",
        "The York store opens Monday to Saturday from 9:30 to 18:00.",
        ("store hours", "opening times of the shop", "are you open on saturday"),
    ),
    Entry(
        "invoice",
        "Where do I find my invoice?",
        "Your invoice is under My Orders; write to help@larkfell.example if it is missing.",
        ("i need a receipt", "download bill"),
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs something this machine does not have; in CI only these marks may skip."""
    for item in items:
        if item.get_closest_marker("needs_shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="needs ../shared/data"))
        if item.get_closest_marker("needs_gpu") and not Path("/dev/nvidia0").exists():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        if item.get_closest_marker("needs_hub") and not os.environ.get("FEATHERDESK_TEST_HUB"):
            item.add_marker(pytest.mark.skip(reason="needs the hub: set FEATHERDESK_TEST_HUB=1"))
        if item.get_closest_marker("slow") and not os.environ.get("FEATHERDESK_SLOW"):
            item.add_marker(pytest.mark.skip(reason="slow: set FEATHERDESK_SLOW=1"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skip without one of the allowed marks is a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    marks = ("needs_shared", "needs_gpu", "needs_hub", "slow")
    allowed = any(item.get_closest_marker(mark) for mark in marks)
    if os.environ.get("CI") and report.skipped and not allowed:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture
def entries() -> list[Entry]:
    """Five entries of a shop."""
    return list(ENTRIES)


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The real MiniLM encoder, fetched into the cache."""
    from featherdesk.agent.catalog import fetch

    return fetch("minilm-l6-v2-int8")


@dataclass
class Scripted:
    """A generator whose tokens are characters and whose answer is written beforehand."""

    answer: str
    seen: list[str] = field(default_factory=list)
    fail: bool = False
    stores: bool = False

    def encode(self, text: str) -> list[int]:
        self.seen.append(text)
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids)

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        return np.zeros(len(tokens), np.float32)

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
        blocks: Sequence[int] = (),
        sources: Sequence[Sequence[int]] = (),
        user: str = "",
    ) -> Iterator[Step]:
        for place, character in enumerate(self.answer):
            if self.fail and place > 5:
                raise GenerationError("too slow")
            if stopped():
                return
            yield Step(ord(character))


@dataclass
class Mixing(Scripted):
    """A generator that writes `mixed` where it reads the blocks of a prompt without each other;
    `read` tells how many there were each time. Behind `seats` texts it is busy."""

    mixed: str = ""
    stores: bool = True
    read: list[int] = field(default_factory=list)
    seats: int = 9

    def generate(
        self, ids: Sequence[int], *, blocks: Sequence[int] = (), **told: Any
    ) -> Iterator[Step]:
        if len(self.read) == self.seats:
            raise BusyError(64, 3)
        self.read.append(len(blocks))
        text = self.mixed if blocks else self.answer
        yield from Scripted(text).generate(ids, blocks=blocks, **told)


@dataclass
class Endless(Scripted):
    """A generator that writes until it is told to stop, and says when it began and ended."""

    answer: str = "Standard delivery "
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
        blocks: Sequence[int] = (),
        sources: Sequence[Sequence[int]] = (),
        user: str = "",
    ) -> Iterator[Step]:
        try:
            for character in itertools.cycle(self.answer):
                if stopped():
                    return
                yield Step(ord(character))
                self.began.set()
                time.sleep(0.001)
        finally:
            self.ended.set()


@pytest.fixture(scope="session")
def small_router(encoder_folder: Path) -> Router:
    """The router over the five entries."""
    index = Index.build(ENTRIES, MiniLM(encoder_folder, 2))
    return Router(index, calibrate(index))


@pytest.fixture
def scripted() -> type[Scripted]:
    """Makes generators that write what is given."""
    return Scripted


@pytest.fixture
def endless() -> Endless:
    """A generator that only stops when it is told to."""
    return Endless()


@pytest.fixture
def mixing() -> type[Mixing]:
    """A generator that mixes up what it reads apart."""
    return Mixing


@pytest.fixture
def agent_of(small_router: Router, tmp_path: Path) -> Callable[..., Agent]:
    """Makes agents over the five entries whose model writes what is given."""
    encoder, count = small_router.index.encoder.id, len(ENTRIES)
    manifest = Manifest(
        "b", "base", "h", "grounded", contract_hash(), ("en",), encoder, count, ("en",)
    )

    def make(answer: str | Scripted, *, fail: bool = False) -> Agent:
        generator = Scripted(answer, fail=fail) if isinstance(answer, str) else answer
        return Agent(small_router, generator, BotConfig(), manifest, tmp_path)

    return make


@pytest.fixture(scope="session")
def sample_bot() -> Path:
    """The real sample bot, built as `make chat` builds it."""
    from featherdesk.serve.demo import sample_bot

    return sample_bot()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium; install it with: apt-get install chromium")


@pytest.fixture(scope="session")
def cli() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run featherdesk as a user does."""

    def run(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "featherdesk.agent.cli", *map(str, arguments)]
        told: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 900, **options}
        return subprocess.run(command, check=False, **told)

    return run

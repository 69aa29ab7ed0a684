"""Shared fixtures: a small FAQ, tiny models made on the spot, the real sample bot."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.types import Entry

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs something this machine does not have; in CI only these marks may skip."""
    for item in items:
        if item.get_closest_marker("needs_shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="needs ../shared/data"))
        if item.get_closest_marker("needs_gpu") and not Path("/dev/nvidia0").exists():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        if item.get_closest_marker("needs_hub") and not os.environ.get("FEATHERDESK_TEST_HUB"):
            item.add_marker(pytest.mark.skip(reason="needs the hub: set FEATHERDESK_TEST_HUB=1"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skip without one of the allowed marks is a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    allowed = any(item.get_closest_marker(m) for m in ("needs_shared", "needs_gpu", "needs_hub"))
    if os.environ.get("CI") and report.skipped and not allowed:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture
def entries() -> list[Entry]:
    """Five entries of a shop."""
    return [
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
    ]


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The real MiniLM encoder, fetched into the cache."""
    from featherdesk.agent.catalog import fetch

    return fetch("minilm-l6-v2-int8")


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

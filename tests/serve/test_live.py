"""A running server and the folder that is put in the place of its bot."""

import json
import logging
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.artifacts import Manifest, place, seal
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.types import Entry
from featherdesk.serve.live import LiveBot

REFUSED = {"verdict": "refused", "reasons": ["it loops"]}


@pytest.fixture
def bot(tmp_path: Path, encoder_folder: Path, entries: list[Entry]) -> Path:
    """A bot without a generator."""
    folder = tmp_path / "bot"
    index = Index.build(entries, MiniLM(encoder_folder, 1))
    index.save(folder / "knowledge")
    calibrate(index, writes=()).save(folder / "knowledge" / "calibration.json")
    place(encoder_folder, folder / "encoder")
    (folder / "bot.toml").write_text('[bot]\nname = "b"\n[generation]\nwrites = []\n')
    contract, encoder = contract_hash(), index.encoder.id
    seal(folder, Manifest("b", "", "", "none", contract, (), encoder, len(entries), ("en",)))
    return folder


def mark(bot: Path, gate: dict[str, Any] | None) -> None:
    """Put a manifest with a verdict in the place of the bot's."""
    path, fresh = bot / "manifest.json", bot.parent / "manifest.json"
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:  # a coarse clock
        fresh.write_text(json.dumps(asdict(replace(Manifest.load(bot), gate=gate))))
        os.replace(fresh, path)


def after_loading(live: LiveBot) -> Agent:
    """The agent once the changed folder was looked at."""
    assert live.agent
    until = time.monotonic() + 60
    while live._stamp != live._read_stamp():
        assert time.monotonic() < until, "the folder was not looked at"
        time.sleep(0.01)
    return live.agent


def test_a_running_server_does_not_take_a_refused_bot(
    bot: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    live = LiveBot(bot)
    first = live.agent
    mark(bot, REFUSED)
    assert after_loading(live) is first
    assert "not taken" in caplog.text
    assert "refused by the gate (it loops); --accept-refused" in caplog.text
    mark(bot, {"verdict": "passed"})
    assert after_loading(live) is not first
    live.store.close()


def test_a_refused_bot_is_taken_where_that_was_accepted(bot: Path) -> None:
    live = LiveBot(bot, accept_refused=True)
    first = live.agent
    mark(bot, REFUSED)
    assert after_loading(live) is not first
    live.store.close()
    with pytest.raises(FeatherdeskError, match="was refused by the gate"):
        LiveBot(bot)

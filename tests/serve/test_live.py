"""A running server and the folder that is put in the place of its bot."""

import json
import logging
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.answers import KeptAnswer, entry_version
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
    place(encoder_folder, folder / "encoder")
    (folder / "bot.toml").write_text('[bot]\nname = "b"\n[generation]\nwrites = []\n')
    fill(folder, entries)
    return folder


def fill(folder: Path, entries: list[Entry]) -> None:
    """Put entries into a bot's folder, anew where there are some."""
    index = Index.build(entries, MiniLM(folder / "encoder", 1))
    index.save(folder / "knowledge")
    calibrate(index, writes=()).save(folder / "knowledge" / "calibration.json")
    contract, encoder = contract_hash(), index.encoder.id
    seal(folder, Manifest("b", "", "", "none", contract, (), encoder, len(entries), ("en",)))


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


def test_a_bot_without_a_generator_keeps_no_answers(bot: Path) -> None:
    live = LiveBot(bot)
    assert live.answers is None
    assert live.agent.answers is None
    live.store.close()


def test_answers_outlive_a_rebuilt_folder_except_of_entries_that_changed(
    bot: Path, entries: list[Entry], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Agent.load
    monkeypatch.setattr(
        Agent, "load", lambda *told, **more: replace(load(*told, **more), generator=scripted(""))
    )
    live = LiveBot(bot)
    kept = live.agent.answers
    assert kept is not None
    for entry in entries:
        kept.add(entry.id, KeptAnswer(entry.answer, 0.5, (entry_version(entry),)))
    changed = [
        replace(entry, answer=f"{entry.answer} Always.") if entry.id == "pay" else entry
        for entry in entries
    ]
    first = live.agent
    fill(bot, changed)
    assert after_loading(live) is not first
    assert live.agent.answers is kept
    found = [entry.id for entry in entries if kept.get(entry.id, 0.5)]
    assert found == [entry.id for entry in entries if entry.id != "pay"]
    live.store.close()


@pytest.mark.parametrize(("cached", "kept"), [(0.0, False), (2.0, True)])
def test_another_room_for_answers_begins_anew(
    bot: Path, scripted: Any, cached: float, kept: bool
) -> None:
    live = LiveBot(bot)
    agent = replace(live.agent, generator=scripted(""))
    live.answers = before = live._answers(agent)
    settings = replace(agent.config.generation, cached=cached)
    after = live._answers(replace(agent, config=replace(agent.config, generation=settings)))
    assert after is not before
    assert (after is not None) is kept
    live.store.close()


def test_a_rebuilt_bot_is_warm_before_it_serves(bot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveBot(bot)
    serving: list[Agent] = []
    monkeypatch.setattr(Agent, "warm", lambda agent: serving.append(live._agent))
    first = live.agent
    mark(bot, {"verdict": "passed"})
    assert after_loading(live) is not first
    assert serving == [first]
    live.store.close()


def test_a_bot_that_cannot_be_warmed_up_serves(
    bot: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(agent: Agent) -> None:
        raise FeatherdeskError("too cold")

    live = LiveBot(bot)
    monkeypatch.setattr(Agent, "warm", fails)
    live.warm()
    assert "could not be warmed up: too cold" in caplog.text
    assert live.agent.reply("when will it arrive?").text
    live.store.close()

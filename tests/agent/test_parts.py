"""The parts of a bot folder, opened at once: what is missing is told as it would be one by one."""

from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import WordsOnly
from featherdesk.agent.errors import ArtifactError, ConfigError
from featherdesk.agent.guards import load_guards
from featherdesk.agent.index import Index
from featherdesk.agent.parts import open_parts
from featherdesk.agent.stages import BotConfig, Guards
from featherdesk.agent.types import Entry

SILENT = Manifest("b", "", "", "none", "c", (), WordsOnly.id, 5, ("en",))
WRITES = Manifest("b", "", "", "none", "c", ("en",), WordsOnly.id, 5, ("en",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bot that finds entries by words."""
    folder = tmp_path_factory.mktemp("bot")
    told = ("delivery time", "worn boots", "payment cards", "store hours", "invoice copy")
    index = Index.build([Entry(name[:4], name, f"About {name}.") for name in told], WordsOnly())
    index.save(folder / "knowledge")
    calibrate(index).save(folder / "knowledge" / "calibration.json")
    return folder


def test_every_part_is_opened(folder: Path) -> None:
    parts = open_parts(folder, SILENT, BotConfig(), 1)
    assert parts.router.index.entries[0].id == "deli"
    assert parts.router.reranker is None
    assert parts.generator is None
    assert [guard.name for guard in parts.guards] == [g.name for g in load_guards(BotConfig())]
    assert parts.router.route("delivery time").matches[0].entry_id == "deli"


def test_a_generator_is_opened_only_where_one_is_wanted(folder: Path) -> None:
    assert open_parts(folder, WRITES, BotConfig(), 1, generate=False).generator is None
    with pytest.raises(ArtifactError, match="generator is not a generator folder"):
        open_parts(folder, WRITES, BotConfig(), 1)


def test_a_part_that_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no reranker"):
        open_parts(folder, replace(SILENT, reranker="r"), BotConfig(), 1)
    with pytest.raises(ArtifactError, match="holds no encoder"):
        open_parts(folder, replace(SILENT, encoder="minilm-l6-v2-int8"), BotConfig(), 1)


def test_a_wrong_guard_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no guard 'abus'"):
        open_parts(folder, SILENT, BotConfig(guards=Guards(off=("abus",))), 1)

"""What a proof has found is found once, and only of the same."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.artifacts import Manifest, place, seal, verify
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import REFUSAL, contract_hash
from featherdesk.agent.types import Entry
from featherdesk.compress.corpora import load_topics, split_topics, told_entry
from featherdesk.compress.dataset import Question, Row
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.kept import Kept

from .conftest import kin

ENTRY = Entry("delivery", "How long does delivery take?", "Delivery takes 3 days and costs £4.95.")
ROWS = (
    Row((ENTRY,), (Question("how much is it", "Delivery costs £4.95."),), "delivery", "topics"),
    Row((ENTRY,), (Question("who founded you", REFUSAL),), "founder", "topics"),
)


@pytest.fixture(scope="module")
def generator(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    model = kin("qwen2", tiny, folder / "model", max_position_embeddings=4096)
    export(model, folder / "generator", Quantization(precision="fp32"))
    return folder / "generator"


@pytest.fixture
def pair(generator: Path, tmp_path: Path) -> list[Path]:
    """Two equal generators, which may be changed."""
    return [shutil.copytree(generator, tmp_path / name) for name in ("one", "two")]


def test_generators_are_measured_once_and_read_back_as_they_were(
    pair: list[Path], tmp_path: Path
) -> None:
    said: list[str] = []
    kept = Kept(tmp_path / "work", said.append)
    first = kept.compare(pair, ROWS, questions=2)
    assert kept.compare(pair, ROWS, questions=2) == first  # its seconds are those of the first
    assert said == [
        "measuring 2 generators, 2 questions each",
        "the generators were measured already",
    ]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["measured.json"]
    (pair[1] / "note.txt").write_text("changed")
    both = kept.compare(pair, ROWS, questions=2)
    assert both[0].timed != first[0].timed  # all of one run, although only the second has changed
    assert both[1].timed != first[1].timed


@pytest.mark.parametrize("change", ["rows", "questions", "fewer", "damaged"])
def test_of_anything_else_generators_are_measured_anew(
    pair: list[Path], tmp_path: Path, change: str
) -> None:
    said: list[str] = []
    kept = Kept(tmp_path / "work", said.append)
    first = kept.compare(pair, ROWS, questions=2)
    rows = (ROWS[0], replace(ROWS[1], group="owner")) if change == "rows" else ROWS
    if change == "damaged":
        path = tmp_path / "work" / "measured.json"
        path.write_text(path.read_text()[:-40])
    again = kept.compare(
        pair[:1] if change == "fewer" else pair,
        rows,
        questions=1 if change == "questions" else 2,
    )
    assert all(line.startswith("measuring") for line in said)
    assert again[0].timed != first[0].timed
    told = json.loads((tmp_path / "work" / "measured.json").read_text())
    assert len(told["found"]) == len(again)


def test_what_could_not_be_measured_leaves_nothing(pair: list[Path], tmp_path: Path) -> None:
    kept = Kept(tmp_path / "work")
    (pair[1] / "tokenizer.json").unlink()
    with pytest.raises(FeatherdeskError):
        kept.compare(pair, ROWS, questions=1)
    assert not (tmp_path / "work").exists()


@pytest.fixture(scope="module")
def bot(generator: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four topics as a bot folder."""
    folder = tmp_path_factory.mktemp("kept") / "bot"
    rng = random.Random(1)
    entries = [told_entry(topic, rng)[0] for topic in split_topics(load_topics())[0][:4]]
    index = Index.build(entries, MiniLM(encoder_folder, 1))
    index.save(folder / "knowledge")
    calibrate(index).save(folder / "knowledge" / "calibration.json")
    place(encoder_folder, folder / "encoder")
    place(generator, folder / "generator")
    (folder / "bot.toml").write_text('[bot]\nname = "topics"\n[generation]\nmax_tokens = 8\n')
    told = ("topics", "base", "h", "none", contract_hash(), ("en",), index.encoder.id)
    seal(folder, Manifest(*told, len(entries), ("en",)))
    return folder


def _copy(bot: Path, to: Path, max_tokens: int = 8) -> Path:
    """The bot as a run makes it anew: what was fitted to it is gone."""
    place(bot, to)
    (to / "bot.toml").unlink()
    text = f'[bot]\nname = "topics"\n[generation]\nmax_tokens = {max_tokens}\n'
    (to / "bot.toml").write_text(text)
    manifest = Manifest.load(to)
    (to / "manifest.json").unlink()
    seal(to, replace(manifest, steps=()))
    return to


def test_thresholds_are_fitted_once_and_stored_with_every_equal_bot(
    bot: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    kept = Kept(tmp_path / "work", said.append)
    one, two = (_copy(bot, tmp_path / name) for name in ("one", "two"))
    for each in (one, two):
        kept.recalibrate(each, None)
        verify(each, Manifest.load(each))
    assert said == ["fitting the thresholds again", "the thresholds were fitted already"]
    assert Manifest.load(one) == Manifest.load(two)
    assert Manifest.load(two).steps[0]["recalibrated"]["questions"] > 40
    for name in ("recalibration.json", "risk-coverage.html"):
        assert (two / "report" / name).read_bytes() == (one / "report" / name).read_bytes()


def test_of_another_bot_or_dev_file_thresholds_are_fitted_anew(bot: Path, tmp_path: Path) -> None:
    said: list[str] = []
    kept = Kept(tmp_path / "work", said.append)
    dev = tmp_path / "dev.jsonl"
    row = {"id": "a", "question": "a spaceship?", "entry_ids": [], "out_of_scope": True}
    for text in ("when?", "where?"):
        dev.write_text(json.dumps({**row, "question": text}))
        kept.recalibrate(_copy(bot, tmp_path / text), dev)
    kept.recalibrate(_copy(bot, tmp_path / "longer", max_tokens=9), dev)
    assert said == 3 * ["fitting the thresholds again"]

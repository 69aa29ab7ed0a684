"""Keys and values of a bot's entries, written by `build` and by a compression, and served."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.artifacts import Manifest, seal, verify
from featherdesk.agent.blocks import block_key
from featherdesk.agent.build import build
from featherdesk.agent.conversations import Store
from featherdesk.agent.engine import Agent
from featherdesk.agent.generators import generator_folder
from featherdesk.agent.prefill import FOLDER, budget_of
from featherdesk.agent.prompt import MAX_ENTRIES, MOST_APART, contract_hash, render
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.types import Author, Match, Reply, Route, RouteKind
from featherdesk.compress.compression import Compressed, _reads_apart, bot_with
from featherdesk.compress.dataset import Row
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.gate import Judgement
from featherdesk.compress.material import Material
from featherdesk.compress.measures import Measure, Rule
from featherdesk.compress.model import merge
from featherdesk.compress.noninferiority import Loss, Verdict
from featherdesk.compress.proof import _as_it_reads
from featherdesk.compress.recipe import Margins
from featherdesk.compress.steps import Done
from featherdesk.compress.subject import Subject
from featherdesk.compress.trial import entries_of

SYLLABLES = ("bo", "ka", "ti", "mu", "re", "so", "la")
NAMES = [(n, f"{one}{two}n") for n, (one, two) in enumerate(product(SYLLABLES, SYLLABLES))]
TOML = """[bot]
faq = ["faq.csv"]
[retrieval]
encoder = "none"
reranker = "none"
[generation]
base = "{base}"
adapter = "{adapter}"
threads = 1
max_tokens = 8
"""


@pytest.fixture(scope="module")
def bot(tiny: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bot built with an adapter that reads entries one by one; more entries than there is room
    for."""
    folder = tmp_path_factory.mktemp("built")
    base, taught = (shutil.copytree(tiny, folder / "base"), shutil.copytree(adapter, folder / "a"))
    told = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**told, "max_position_embeddings": 4096}))
    card = {"name": "shopkeeper", "blocks": True, "prompt_contract": contract_hash()}
    (taught / "card.json").write_text(json.dumps(card))
    more = "So it is. " * 9
    rows = [f"What costs the {name}?,The {name} costs {9 * n} euros. {more}" for n, name in NAMES]
    (folder / "faq.csv").write_text("\n".join(["question,answer", *rows]))
    (folder / "bot.toml").write_text(TOML.format(base=base, adapter=taught))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERDESK_HOME", str(folder / "home"))
        merge(base, taught, folder / "merged")
        export(folder / "merged", generator_folder(str(base), taught), Quantization("fp32"))
        build(folder / "bot.toml", quick=True)
    return folder / "bot"


def _kept(bot: Path) -> tuple[dict[str, object], int, int]:
    """The index of the blocks, their bytes, and those of the generator."""
    index = json.loads((bot / FOLDER / "blocks.json").read_text())
    size = (bot / FOLDER / "blocks.bin").stat().st_size
    return index, size, sum(path.stat().st_size for path in (bot / "generator").iterdir())


def _largest(bot: Path) -> int:
    generator = OnnxGenerator(bot / "generator", 1)
    texts = [render([entry], "").entries[0] for entry in entries_of(bot).values()]
    return generator.block(generator.encode(max(texts, key=len))).size


def test_a_build_keeps_as_much_as_the_generator_takes(bot: Path) -> None:
    manifest = Manifest.load(bot)
    assert manifest.blocks
    verify(bot, manifest)
    index, size, generator = _kept(bot)
    assert budget_of(bot, -1.0) == generator
    assert 1 < len(index) < 1 + len(NAMES)  # the system line, and not every entry
    room = generator * 9 // 10  # the rest is for entries that are asked for later
    assert room - _largest(bot) < size <= room


def test_what_did_not_fit_is_kept_once_it_was_asked_for(bot: Path) -> None:
    generator = Agent.load(bot).generator
    assert isinstance(generator, OnnxGenerator)
    store = generator.store
    assert store is not None
    index, entries = _kept(bot)[0], entries_of(bot).values()
    texts = [generator.encode(render([one], "").entries[0]) for one in entries]
    left_out = next(ids for ids in texts if block_key(ids) not in index)
    for misses in (1, 1):
        generator.first([*left_out, 9], [0], [len(left_out)])
        assert store.misses == misses


def test_what_was_kept_is_what_a_prompt_of_the_served_bot_asks_for(bot: Path) -> None:
    agent = Agent.load(bot)
    generator = agent.generator
    assert isinstance(generator, OnnxGenerator)
    store = generator.store
    assert store is not None
    index, entries = _kept(bot)[0], agent.router.index.entries
    assert len(store) == len(index)
    keys = {e.id: block_key(generator.encode(render([e], "").entries[0])) for e in entries}
    stored = [e for e in entries if keys[e.id] in index]
    assert len(stored) == len(index) - 1  # the system line
    prompt = [generator.encode(text) for text in render(stored[-2:], "what costs it?").texts]
    generator.first([t for ids in prompt for t in ids], [0], [len(ids) for ids in prompt[:-1]])
    assert (store.hits, store.misses) == (3, 0)  # the system line and both entries


def test_what_is_asked_most_is_read_first(
    bot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a build and by a compression, as the conversations beside the bot tell."""
    shop = shutil.copytree(bot.parent, tmp_path / "shop")
    monkeypatch.setenv("FEATHERDESK_HOME", str(bot.parent / "home"))
    store = Store.beside(shop / "bot")
    entries = list(entries_of(bot).values())
    last = entries[-1]
    route = Route(RouteKind.ANSWER, 0.9, 0.5, (Match(last.id, 0.9),))
    store.add("c", "?", Reply("so", route, Author.MODEL))
    store.close()
    generator = OnnxGenerator(bot / "generator", 1)
    key = block_key(generator.encode(render([last], "").entries[0]))
    assert key not in _kept(bot)[0]
    build(shop / "bot.toml", quick=True)
    bot_with(shop / "bot", bot / "generator", tmp_path / "out")
    for made in (shop / "bot", tmp_path / "out"):
        assert list(_kept(made)[0])[1] == key  # behind the system line


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_another_generator_reads_the_entries_anew(
    precision: str, bot: Path, tmp_path: Path
) -> None:
    export(bot.parent / "merged", tmp_path / "g", Quantization(precision))
    bot_with(bot, tmp_path / "g", tmp_path / "out")
    verify(tmp_path / "out", Manifest.load(tmp_path / "out"))
    index, size, generator = _kept(tmp_path / "out")
    before = _kept(bot)
    assert size <= generator * 9 // 10
    assert generator == budget_of(tmp_path / "out", -1.0)
    same = (bot / FOLDER / "blocks.bin", tmp_path / "out" / FOLDER / "blocks.bin")
    if precision == "fp32":  # the same model: the same blocks
        assert (index, same[0].read_bytes()) == (before[0], same[1].read_bytes())
    else:  # a smaller one has room for fewer, and sees others
        assert 1 < len(index) < len(before[0])
        assert same[0].read_bytes()[:size] != same[1].read_bytes()


def test_what_has_learned_it_reads_entries_one_by_one(bot: Path, tmp_path: Path) -> None:
    together = shutil.copytree(bot, tmp_path / "bot")
    shutil.rmtree(together / FOLDER)
    seal(together, replace(Manifest.load(together), blocks=False))
    assert not bot_with(together, bot / "generator", tmp_path / "whole").blocks
    assert not (tmp_path / "whole" / FOLDER).exists()
    assert bot_with(together, bot / "generator", tmp_path / "healed", apart=True).blocks
    assert _kept(tmp_path / "healed")[0] == _kept(bot)[0]


@pytest.mark.parametrize(
    ("verdicts", "lost", "blocks"),
    [
        (["passed"], 0.4, True),
        (["undecided"], 0.4, True),  # for want of questions
        (["undecided", "passed"], 1.01, False),
        (["refused", "refused"], 3.0, False),
    ],
)
def test_what_loses_too_much_one_by_one_is_judged_reading_together(
    bot: Path, tmp_path: Path, verdicts: list[str], lost: float, blocks: bool
) -> None:
    before = shutil.copytree(bot, tmp_path / "before")
    shutil.rmtree(before / FOLDER)
    seal(before, replace(Manifest.load(before), blocks=False))
    healed = tmp_path / "healed"
    bot_with(before, bot / "generator", healed, apart=True)
    subject = Subject(tmp_path, Material((), ()), before)
    asked, told = [], list[str]()

    def judge() -> Any:
        asked.append(Manifest.load(healed).blocks)
        verify(healed, Manifest.load(healed))
        verdict = Verdict(verdicts[len(asked) - 1])
        loss = Loss(100, 100, 0.5, 0.5, lost, lost - 2, lost + 2, 4, 1)
        measure = Measure("correct_raw", Rule.BOUNDED, loss, verdict)
        return Judgement(verdict, ("too much",), Margins(), "", (measure,)), None

    done = Compressed(healed, subject, (), 1.0)
    judgement, _, notes = _as_it_reads(done, judge, told.append)
    assert judgement.verdict.value == verdicts[-1]
    assert asked == [True, False][: len(verdicts)]
    assert told == notes
    assert len(notes) == len(verdicts) - 1
    assert all(f"the gate says {verdicts[0]} (too much)" in note for note in notes)
    assert (healed / FOLDER).exists() is blocks
    assert Agent.load(healed).router.shown == (MOST_APART if blocks else MAX_ENTRIES)
    assert Agent.load(healed).reply("What costs the katin?").text


def test_healing_teaches_it_where_a_third_of_its_rows_do() -> None:
    heal = Done("heal", "heal", Path(), {}, {}, 1.0)
    rows = [Row((), (), "a", "", block=n < 2) for n in range(6)]
    assert _reads_apart([heal], Material(tuple(rows), ()))
    assert not _reads_apart([replace(heal, kind="export")], Material(tuple(rows), ()))
    assert not _reads_apart([heal], Material(tuple(rows[1:]), ()))
    assert not _reads_apart([heal], Material((), ()))


def test_no_room_is_no_folder(bot: Path, tmp_path: Path) -> None:
    source = shutil.copytree(bot, tmp_path / "bot")
    with (source / "bot.toml").open("a") as file:
        file.write("stored_mb = 0\n")
    bot_with(source, bot / "generator", tmp_path / "out")
    assert not (tmp_path / "out" / FOLDER).exists()
    assert Agent.load(tmp_path / "out").reply("What costs the katin?").text

"""Re-calibration with generators whose doubt and words are written by rule."""

import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.artifacts import Manifest, place, seal, verify
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.runtime import Step
from featherdesk.agent.scoring import from_odds, log_odds
from featherdesk.compress.corpora import load_topics, split_topics, told_entry
from featherdesk.compress.doubts import Probed, ask_own
from featherdesk.compress.recalibrate import (
    _opened,
    curve_of,
    fitted,
    matched,
    recalibrate,
)
from featherdesk.compress.refusal import Asked
from numpy.typing import NDArray

from ..serve.tiny_bot import make_generator

_ENTRY = re.compile(r"Q: (.*)\nA: (.*)\n")
_SMALL = frozenset("a an the is are do does i you can my your to of for in on it what how".split())


@dataclass
class Doubting:
    """Tokens are characters. It doubts where the first entry has none of the question's words,
    `shift` log-odds more than usual, and writes the first entry's answer, or `says`."""

    shift: float = 0.0
    says: str | None = None
    stores: bool = False

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids)

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        prompt = self.decode(ids)
        question = prompt.rpartition("Customer: ")[2].partition("<|im_end|>")[0]
        asked, answer = _ENTRY.findall(prompt)[0]
        common = _words(question) & _words(f"{asked} {answer}")
        noise = hashlib.sha256(question.encode()).digest()[0] / 128 - 1
        doubt = from_odds((-4.0 if common else 1.0) + noise + self.shift)
        return np.full(len(tokens), doubt, np.float32)

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
        assert first_veto is not None
        assert first_veto[1] > 1  # whether it refuses is measured apart
        said = self.says if self.says is not None else _ENTRY.findall(self.decode(ids))[0][1]
        for character in said[:max_tokens]:
            yield Step(ord(character))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower())) - _SMALL


@pytest.fixture(scope="module")
def bot(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty topics as a bot folder, without a generator."""
    folder = tmp_path_factory.mktemp("recalibrated") / "bot"
    rng = random.Random(1)
    entries = [told_entry(topic, rng)[0] for topic in split_topics(load_topics())[0][:40]]
    index = Index.build(entries, MiniLM(encoder_folder, 1))
    index.save(folder / "knowledge")
    calibrate(index).save(folder / "knowledge" / "calibration.json")
    place(encoder_folder, folder / "encoder")
    (folder / "bot.toml").write_text('[bot]\nname = "topics"\n')
    told = ("topics", "base", "h", "none", contract_hash(), ("en",), index.encoder.id)
    seal(folder, Manifest(*told, len(entries), ("en",), refusal=0.4, refusal_slope=0.1))
    return folder


@pytest.fixture(scope="module")
def probed(bot: Path) -> list[Probed]:
    return ask_own(Agent.load(bot, generate=False), Doubting())


def test_own_wordings_are_held_out_and_near_misses_have_no_answer(probed: list[Probed]) -> None:
    groups = {group: [p for p in probed if p.group == group] for group in ("own", "away", "near")}
    assert len(groups["own"]) == 40
    assert len(groups["away"]) == 10
    assert len(groups["near"]) > 40
    assert all(p.asked.answerable for p in groups["own"])
    assert not any(p.asked.answerable or p.right for p in (*groups["away"], *groups["near"]))
    first = np.mean([p.asked.first for p in groups["own"]])
    assert 0.2 < first < 0.9  # with its wording in the index every one would be found
    assert not any(p.asked.first for p in groups["away"])


def test_thresholds_keep_the_wanted_share_with_any_generator(
    bot: Path, probed: list[Probed]
) -> None:
    manifest = Manifest.load(bot)
    before = fitted(probed, 0.96, manifest)
    more = [replace(p, asked=replace(p.asked, refusal=p.asked.refusal + 2)) for p in probed]
    after = fitted(more, 0.96, manifest)

    def kept(questions: Sequence[Probed], told: dict[str, float]) -> float:
        edge, slope = log_odds(told["refusal"]), told["refusal_slope"]
        right = [p.asked for p in questions if p.asked.answerable and p.asked.first]
        return float(np.mean([a.refusal < edge + slope * a.router for a in right]))

    assert before["fitted"]
    assert abs(kept(probed, before) - 0.96) < 0.04
    assert abs(kept(more, after) - 0.96) < 0.04
    assert kept(more, before) < 0.9  # the parent's threshold would refuse what it can answer


def test_too_few_questions_leave_the_thresholds_as_they_were(bot: Path) -> None:
    one = Probed(Asked(1.0, -4.0, first=True, answerable=True), "own", True)
    told = fitted([one] * 5, 0.96, Manifest.load(bot))
    assert (told["refusal"], told["refusal_slope"], told["fitted"]) == (0.4, 0.1, False)


def test_beside_its_parent_a_bot_refuses_as_many_questions(bot: Path, probed: list[Probed]) -> None:
    parent = Manifest.load(bot)
    shaken = random.Random(2)
    both = [
        replace(
            p,
            parent=p.asked.refusal,
            asked=replace(p.asked, refusal=p.asked.refusal + 3 + shaken.gauss(0, 0.5)),
        )
        for p in probed
    ]
    told = matched(both, parent)
    slope = parent.refusal_slope
    assert told["refusal_slope"] == slope

    def refused(edge: float, doubts: Sequence[float]) -> list[bool]:
        routed = [p.asked.router for p in both]
        return [d - slope * r >= log_odds(edge) for d, r in zip(doubts, routed, strict=True)]

    theirs = refused(parent.refusal, [p.parent for p in both])
    ours = refused(told["refusal"], [p.asked.refusal for p in both])
    assert 0 < sum(theirs) == sum(ours) == told["as_parent"] < len(both)
    assert told["refusal"] > 0.8  # it doubts three log-odds more, so its threshold is higher
    for edge, many in ((0.0001, len(both)), (0.9999, 0)):  # a parent that refuses all, or nothing
        extreme = matched(both, replace(parent, refusal=edge))
        assert sum(refused(extreme["refusal"], [p.asked.refusal for p in both])) == many


def test_beside_its_parent_a_threshold_is_one_that_can_be_stored(
    bot: Path, probed: list[Probed]
) -> None:
    """What is told is of the threshold that serves, not of one beyond its reach."""
    parent = Manifest.load(bot)
    far = [
        replace(p, parent=-20.0, asked=replace(p.asked, refusal=p.asked.refusal + 15))
        for p in probed
    ]
    told = matched(far, parent)
    assert log_odds(told["refusal"]) == pytest.approx(9.0, abs=0.1)
    sure = sum(p.asked.refusal - parent.refusal_slope * p.asked.router < 9 for p in far)
    assert told["as_parent"] == 0
    assert (told["kept"] < 1) == (sure < len(far))
    few = matched(probed[:5], parent)
    assert (few["refusal"], few["fitted"]) == (parent.refusal, False)


def test_the_parent_is_asked_as_it_serves(bot: Path, tmp_path: Path) -> None:
    """The artefact reads entries one by one, which its parent never learned."""
    ours = replace(Manifest.load(bot), blocks=True)
    agent = replace(Agent.load(bot, generate=False), manifest=ours)
    folder = make_generator(tmp_path / "g")
    assert _opened(agent, folder).stores
    assert not _opened(agent, folder, Manifest.load(bot)).stores


def test_a_model_that_only_doubts_more_decides_as_its_parent_does(bot: Path) -> None:
    agent = Agent.load(bot, generate=False)
    asked = ask_own(agent, Doubting(shift=2.0), parent=Doubting())
    assert all(abs(p.asked.refusal - p.parent - 2.0) < 1e-3 for p in asked)
    parent = Manifest.load(bot)
    told = matched(asked, parent)
    ours, theirs = log_odds(told["refusal"]), log_odds(parent.refusal)
    assert ours > theirs
    for p in asked:
        routed = parent.refusal_slope * p.asked.router
        assert (p.asked.refusal - routed >= ours) == (p.parent - routed >= theirs)


def test_the_curve_knows_wrong_words_and_sureness(probed: list[Probed]) -> None:
    curve, (coverage, risk) = curve_of(probed, 0.5, 1.0)
    assert 0 < coverage < 1
    assert curve.risk[-1] <= curve.risk[0]  # the surer, the less risk
    wrong, (_, all_wrong) = curve_of([replace(p, right=False) for p in probed], 0.5, 1.0)
    assert all_wrong == 1.0 > risk
    assert wrong.coverage == curve.coverage


def _copy(bot: Path, to: Path) -> Path:
    """A bot whose files are links to another's, as builds leave them."""
    place(bot, to)
    (to / "manifest.json").unlink()
    (to / "manifest.json").write_bytes((bot / "manifest.json").read_bytes())
    return to


def test_it_is_stored_with_the_bot_and_other_bots_are_left_alone(bot: Path, tmp_path: Path) -> None:
    (bot / "report").mkdir(exist_ok=True)
    (bot / "report" / "risk-coverage.html").write_text("the parent's")
    copy = _copy(bot, tmp_path / "copy")
    told = recalibrate(copy, Doubting(shift=1.5))
    again = recalibrate(copy, Doubting(shift=1.5))
    manifest = Manifest.load(copy)
    verify(copy, manifest)
    assert told == again
    assert (manifest.refusal, manifest.refusal_slope) == (told["refusal"], told["refusal_slope"])
    assert manifest.files == Manifest.load(bot).files
    (step,) = manifest.steps
    assert step["recalibrated"]["coverage"] == told["coverage"]
    report = json.loads((copy / "report" / "recalibration.json").read_text())
    assert report["curve"]["risk"]
    assert "how sure it is" in (copy / "report" / "risk-coverage.html").read_text()
    assert (bot / "report" / "risk-coverage.html").read_text() == "the parent's"
    assert Manifest.load(bot).refusal == 0.4
    assert not [name for name in os.listdir(copy) if name.startswith(".")]


def test_a_generator_of_garbage_has_nothing_but_risk(bot: Path, tmp_path: Path) -> None:
    copy = _copy(bot, tmp_path / "copy")
    assert recalibrate(copy, Doubting(says="It costs £98,765."))["risk"] == 1.0
    assert recalibrate(copy, Doubting())["risk"] < 0.9


def test_rows_of_a_dev_file_are_asked_instead(bot: Path, tmp_path: Path) -> None:
    copy = _copy(bot, tmp_path / "copy")
    entries = Agent.load(bot, generate=False).router.index.entries
    rows = [
        {"id": f"d{n}", "question": entry.variants[0], "entry_ids": [entry.id], "facts": []}
        for n, entry in enumerate(entries)
    ]
    # out of scope, and yet in an entry's words, so that the router lets the model see them
    rows += [
        {"id": f"o{n}", "question": entry.variants[1], "entry_ids": [], "out_of_scope": True}
        for n, entry in enumerate(entries[:20])
    ]
    dev = tmp_path / "dev.jsonl"
    dev.write_text("\n".join(json.dumps(row) for row in rows))
    told = recalibrate(copy, Doubting(), dev=dev)
    assert told["fitted"]
    assert told["kept"] == 0.97
    assert told["found_right"] > 30
    assert told["unanswerable"] >= 12


def test_a_bot_without_a_generator_is_told_so(bot: Path, tmp_path: Path) -> None:
    copy = _copy(bot, tmp_path / "copy")
    seal(copy, replace(Manifest.load(copy), writes=()))
    with pytest.raises(FeatherdeskError, match="has no generator"):
        recalibrate(copy)

"""The hand-written test files are sound: entries exist, facts stand in them, words are new."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.evaluate import facts_present, load_cases
from featherdesk.agent.ingest import read_faq
from featherdesk.agent.types import Entry
from featherdesk.compress.corpora import load_topics

DATA = Path(__file__).parent / "data"
SAMPLE = Path(str(files("featherdesk") / "models" / "sample"))
NEEDS_HISTORY = ("elliptical", "pronoun", "ordinal", "correction")


def _rows(name: str) -> list[dict[str, Any]]:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _words(text: str) -> set[str]:
    """Latin words and Chinese character pairs, as test_sample counts them."""
    chinese = re.findall(r"[一-鿿]+", text)
    pairs = {piece[n : n + 2] for piece in chinese for n in range(len(piece) - 1)}
    return set(re.findall(r"[a-z0-9£€$']+", text.lower())) | pairs


def _most_shared(question: str, known: Sequence[set[str]]) -> float:
    asked = _words(question)
    return max(len(asked & words) for words in known) / max(1, len(asked))


@pytest.fixture(scope="module")
def shop() -> dict[str, Entry]:
    names = ("faq_en.jsonl", "faq_zh.jsonl")
    return {entry.id: entry for name in names for entry in read_faq(SAMPLE / name)}


@pytest.mark.parametrize("name", ["dialogues", "sample_blind", "sample_gate"])
def test_every_fact_stands_in_an_entry_that_the_row_names(
    name: str, shop: dict[str, Entry]
) -> None:
    for case in load_cases(DATA / f"{name}.jsonl", shop):
        answers = "\n".join(shop[entry_id].answer for entry_id in case.entry_ids)
        assert case.out_of_scope or case.facts, case.id
        assert facts_present(answers, [fact[:1] for fact in case.facts]), (case.id, case.facts)


def test_dialogues_alternate_and_most_of_them_need_the_turns_before(
    shop: dict[str, Entry],
) -> None:
    rows = _rows("dialogues")
    counts = Counter(row["kind"] for row in rows)
    assert sum(counts[kind] for kind in NEEDS_HISTORY) >= 100
    for row in rows:
        roles = [turn["role"] for turn in row["history"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2), row["id"]
        assert 2 <= len(roles) <= 6, row["id"]
        said = " ".join(turn["content"] for turn in row["history"][1::2])
        assert not facts_present(said, row["facts"]), row["id"]


@pytest.mark.parametrize("name", ["sample_blind", "sample_gate"])
def test_no_blind_question_shares_over_six_tenths_of_its_words(
    name: str, shop: dict[str, Entry]
) -> None:
    known = [text for entry in shop.values() for text in entry.questions]
    known += [text for topic in load_topics() for text in (*topic.questions, *topic.near)]
    known += [text for topic in load_topics() for _, text in topic.leads]
    worded = [_words(text) for text in known]
    for row in _rows(name):
        lone = name == "sample_blind" or row["kind"] != "follow_up"  # those are a few words
        assert not lone or _most_shared(row["question"], worded) <= 0.6, row["id"]


def test_the_bus_company_answers_what_is_asked_of_it_in_other_words() -> None:
    entries = read_faq(DATA / "regression_faq.jsonl")
    known = [_words(text) for entry in entries for text in entry.questions]
    rows = _rows("regression_questions")
    asked = [row for row in rows if row["answerable"]]
    assert len(entries) >= 220
    assert len(rows) - len(asked) >= 150
    assert {entry_id for row in asked for entry_id in row["entry_ids"]} <= {e.id for e in entries}
    for row in asked:
        assert _most_shared(row["question"], known) < 0.6, row["question"]

"""The sample shop is big enough, its test file sound, and no test question a known wording."""

import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.ingest import read_faq
from featherdesk.compress.corpora import load_topics

SAMPLE = Path(str(files("featherdesk") / "models" / "sample"))
KINDS = {
    *("paraphrase", "typos", "two_questions", "follow_up"),
    *("near_miss", "out_of_scope", "chinese"),
}


def _rows(half: str) -> list[dict[str, Any]]:
    lines = (SAMPLE / f"{half}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _words(text: str) -> set[str]:
    """Latin words and Chinese character pairs."""
    chinese = re.findall(r"[一-鿿]+", text)
    pairs = {piece[n : n + 2] for piece in chinese for n in range(len(piece) - 1)}
    return set(re.findall(r"[a-z0-9£€$']+", text.lower())) | pairs


def test_the_shop_has_enough_entries_each_with_variants() -> None:
    for name, least in (("faq_en.jsonl", 90), ("faq_zh.jsonl", 30)):
        entries = read_faq(SAMPLE / name)
        assert len(entries) >= least
        assert all(len(entry.variants) >= 3 for entry in entries)


def test_the_evaluation_file_holds_every_kind_and_existing_entries() -> None:
    known = {e.id for name in ("faq_en.jsonl", "faq_zh.jsonl") for e in read_faq(SAMPLE / name)}
    rows = [*_rows("dev"), *_rows("test")]
    assert len(rows) >= 500
    assert len({row["id"] for row in rows}) == len(rows)
    counts = Counter(row["kind"] for row in rows)
    assert set(counts) == KINDS
    assert min(counts.values()) >= 60
    for row in rows:
        assert row.get("out_of_scope") or (row["facts"] and set(row["entry_ids"]) <= known), row


@pytest.mark.parametrize("source", ["entries and variants", "training rows"])
def test_no_test_question_shares_over_six_tenths_of_its_words(source: str) -> None:
    if source == "training rows":
        known = [text for topic in load_topics() for text in (*topic.questions, *topic.near)]
        known += [text for topic in load_topics() for _, text in topic.leads]
    else:
        names = ("faq_en.jsonl", "faq_zh.jsonl")
        known = [text for name in names for e in read_faq(SAMPLE / name) for text in e.questions]
    worded = [_words(text) for text in known]
    for row in _rows("test"):
        asked = _words(row["question"])
        nearest = max(range(len(known)), key=lambda n: len(asked & worded[n]))
        assert len(asked & worded[nearest]) <= 0.6 * len(asked), (row["id"], known[nearest])

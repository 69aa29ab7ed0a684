from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.evidence import Evidence
from featherdesk.compress.corpora import load_topics
from featherdesk.compress.support import examples, fit, newton, rarity_of, save


def test_rarity_is_low_for_what_every_topic_says() -> None:
    rarity = rarity_of(load_topics("topics_shop.jsonl"))
    assert 0 <= rarity["order"] < rarity["bicycl"] <= 1
    assert all(word == word.lower() for word in rarity)


def test_examples_are_right_and_wrong_in_many_ways_and_repeat_with_a_seed() -> None:
    topics = load_topics("topics_shop.jsonl")[:12]
    made = list(examples(topics, 1))
    assert made == list(examples(topics, 1))
    assert {e.kind for e in made if not e.wrong} == {"right"}
    assert len({e.kind for e in made if e.wrong}) >= 15
    assert 0.3 < np.mean([e.wrong for e in made]) < 0.8


def test_newton_parts_two_classes() -> None:
    x = np.random.default_rng(1).normal(size=(400, 2))
    weights = newton(x, (x[:, 0] > 0).astype(float))
    assert weights[0] > 10 * abs(weights[1])


def test_a_fitted_score_doubts_the_wrong_more_and_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = load_topics("topics_shop.jsonl")[:30]
    made = list(examples(topics, 1))
    support = fit(made, rarity_of(topics))
    doubts = [support.doubts(e.reply, Evidence.of(e.sources), e.question) for e in made]
    right = np.mean([d for d, e in zip(doubts, made, strict=True) if not e.wrong])
    wrong = np.mean([d for d, e in zip(doubts, made, strict=True) if e.wrong])
    assert right < 0.15 < 0.5 < wrong
    save(support, tmp_path / "support.json")
    assert (tmp_path / "support.json").read_text(encoding="utf-8").startswith("{")

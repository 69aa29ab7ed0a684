import random
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.grounding import unsupported
from featherdesk.agent.prompt import REFUSAL
from featherdesk.agent.types import Entry
from featherdesk.compress.augment import dropped_words, introduced, noisy, polite, reworded, typos
from featherdesk.compress.corpora import bot_rows, load_topics, target, topic_rows
from featherdesk.compress.material import bot_material


def test_every_topic_is_complete() -> None:
    topics = load_topics()
    assert len(topics) >= 120
    assert len({topic.name for topic in topics}) == len(topics)
    for topic in topics:
        assert len(topic.questions) >= 8
        assert len(topic.answers) >= 3
        assert "{" not in "".join(topic.followups)


def test_rows_keep_the_facts_of_their_entries() -> None:
    rows = list(topic_rows(load_topics(), 300, 3))
    refusals = 0
    for row in rows:
        sources = [f"{entry.answer} {entry.question}" for entry in row.entries]
        for question in row.questions:
            assert "{" not in question.target
            if question.target == REFUSAL:
                refusals += 1
            else:
                assert not unsupported(question.target, sources)
    assert 0.05 < refusals / sum(len(row.questions) for row in rows) < 0.3


def test_a_question_is_never_the_entrys_own() -> None:
    for row in topic_rows(load_topics(), 300, 4):
        for question in row.questions:
            assert question.text.lower() not in {e.question.lower() for e in row.entries}


def test_half_the_rows_use_block_attention_and_a_third_answer_at_length() -> None:
    rows = list(topic_rows(load_topics(), 600, 5))
    assert 0.4 < sum(row.block for row in rows) / len(rows) < 0.6
    answers = [len(q.target.split()) for r in rows for q in r.questions if q.target != REFUSAL]
    assert sum(25 <= n <= 80 for n in answers) / len(answers) > 0.3


def test_the_same_seed_gives_the_same_rows() -> None:
    topics = load_topics()
    assert list(topic_rows(topics, 20, 9)) == list(topic_rows(topics, 20, 9))


def test_rows_of_a_bot_ask_in_its_other_wordings(entries: list[Entry]) -> None:
    rows = list(bot_rows(entries, load_topics(), 40, 1))
    own = [row for row in rows if row.source == "bot"]
    assert len(own) == 30
    assert {row.group for row in own} == {entry.id for entry in entries}


def test_a_bot_without_english_entries_is_learned_from_topics(entries: list[Entry]) -> None:
    german = [replace(entry, language="de") for entry in entries]
    rows = list(bot_rows(german, load_topics(), 12, 1, beside=1))
    assert [row.source for row in rows] == ["topics"] * 12
    material = bot_material(german, 32)
    assert material.rows
    assert material.held
    assert german[0].answer in material.words


def test_an_unasked_yes_is_dropped() -> None:
    assert target(["Yes, it costs £3."], "How much is it?") == "It costs £3."
    assert target(["No, it does not."], "Does it cost anything?") == "No, it does not."


@pytest.mark.parametrize("change", [typos, dropped_words, introduced, polite, reworded, noisy])
def test_augmentation_is_repeatable_and_never_empty(change: object) -> None:
    text = "How much does delivery to Spain cost?"
    results = [change(text, random.Random(seed)) for seed in range(50)]  # type: ignore[operator]
    assert results == [change(text, random.Random(seed)) for seed in range(50)]  # type: ignore[operator]
    assert all(results)


def test_no_public_sentence_stands_in_the_topics() -> None:
    folder = Path(__file__).resolve().parents[2] / "compress"
    assert "{{" not in "".join(p.read_text(encoding="utf-8") for p in folder.glob("topics_*.jsonl"))

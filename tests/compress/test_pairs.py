from collections.abc import Sequence
from pathlib import Path

import pytest
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.errors import InputError
from featherdesk.compress.corpora import load_topics, split_topics
from featherdesk.compress.mixture import HELD_OUT
from featherdesk.compress.pairs import (
    CANDIDATES,
    Group,
    faq_groups,
    intent_groups,
    load_groups,
    save_groups,
    topic_groups,
)
from featherdesk.compress.public import businesses

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> MiniLM:
    return MiniLM(encoder_folder, 2, "minilm-l6-v2-int8")


@pytest.fixture(scope="module")
def groups(encoder: MiniLM) -> list[Group]:
    topics, _ = split_topics(load_topics())
    return list(topic_groups(topics, encoder, 300, 5))


def test_groups_hold_the_right_entry_first_or_none(groups: Sequence[Group]) -> None:
    assert len(groups) >= 300
    assert {group.right for group in groups} == {0, -1}
    assert all(2 <= len(group.entries) <= CANDIDATES for group in groups)
    none = sum(group.right < 0 for group in groups) / len(groups)
    assert 0.1 < none < 0.4


def test_an_entry_never_stands_under_the_question_itself(groups: Sequence[Group]) -> None:
    for group in groups:
        assert group.question.lower() not in {w.lower() for w, _ in group.entries}, group


def test_follow_ups_carry_the_turn_before(groups: Sequence[Group]) -> None:
    told = [group for group in groups if group.before]
    assert 0.15 < len(told) / len(groups) < 0.6


def test_topics_lead_to_others_that_exist() -> None:
    topics = load_topics()
    names = {topic.name for topic in topics}
    assert sum(bool(topic.leads) for topic in topics) > 0.9 * len(topics)
    for topic in topics:
        assert all(name in names and name != topic.name and text for name, text in topic.leads)


def test_intents_ask_one_utterance_under_another(encoder: MiniLM) -> None:
    said = {
        "card": ["my card is lost", "where is my card", "card gone"],
        "pin": ["forgot my pin", "reset the pin", "pin wrong"],
        "fee": ["why a fee", "what does it cost", "charges?"],
    }
    groups = list(intent_groups(said, {"fee": ["It is free."]}, encoder, 40, 1, "banking77"))
    assert len(groups) == 40
    for group in groups:
        if group.right == 0:
            own = next(name for name, texts in said.items() if group.entries[0][0] in texts)
            others = [name for name, t in said.items() for w, _ in group.entries[1:] if w in t]
            assert own not in others
        assert ("It is free." in {a for _, a in group.entries}) == any(
            wording in said["fee"] for wording, _ in group.entries
        )


@pytest.mark.needs_shared
def test_held_out_businesses_are_not_among_the_groups(encoder: MiniLM) -> None:
    path = SHARED / "dstc9_faq_kb" / "knowledge.train.json"
    groups = list(faq_groups(path, HELD_OUT, encoder, 60, 1))
    seen = {answer for group in groups for _, answer in group.entries}
    shops = businesses(path, set())
    kept = {e.answer for name, es in shops.items() if name not in HELD_OUT for e in es}
    assert seen <= kept


def test_groups_read_back_and_a_wrong_line_is_named(
    groups: Sequence[Group], tmp_path: Path
) -> None:
    path = tmp_path / "groups.jsonl"
    save_groups(groups, path)
    assert load_groups(path) == list(groups)
    path.write_text(path.read_text(encoding="utf-8") + '{"question": 3}\n', encoding="utf-8")
    with pytest.raises(InputError, match=rf"groups.jsonl:{len(groups) + 1}: not a training group"):
        load_groups(path)

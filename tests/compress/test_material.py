"""What a bot's compression is measured on and learns from: its own questions first."""

from dataclasses import replace

import pytest
from featherdesk.agent.prompt import REFUSAL
from featherdesk.agent.types import Entry
from featherdesk.compress.material import Material, bot_material

NAMES = ("boots", "tents", "ropes", "maps", "lamps", "stoves", "socks", "packs")
ENTRIES = [
    Entry(
        f"{name}-{what}",
        f"What is the {what} of {name}?",
        f"The {what} of {name} is {n} euros.",
        (f"{what} for {name} please", f"tell me the {what} of your {name}"),
    )
    for n, (name, what) in enumerate((a, b) for a in NAMES for b in ("price", "deposit", "fee"))
]
CHINESE = Entry("zh", "退货要几天？", "三十天内可以退货。", ("怎么退货",), language="zh")


@pytest.fixture(scope="module")
def material() -> Material:
    return bot_material([*ENTRIES, CHINESE], 240)


def test_half_the_rows_are_the_bots_own(material: Material) -> None:
    rows = [*material.rows, *material.held]
    assert len(rows) == 240
    own = [row for row in rows if row.source == "bot"]
    assert len(own) == 120
    assert {row.group for row in own} == {entry.id for entry in ENTRIES}
    asked = {q.text.lower() for row in own for q in row.questions}
    wordings = {text.lower() for entry in ENTRIES for text in entry.questions}
    assert len(asked & wordings) > len(ENTRIES)  # in the words that its FAQ has for them


def test_what_is_held_out_is_learned_nowhere(material: Material) -> None:
    learned, held = ({row.group for row in rows} for rows in (material.rows, material.held))
    assert held
    assert not learned & held
    assert len(held) == pytest.approx(len(learned | held) / 16, abs=1)


def test_every_row_is_also_asked_what_it_does_not_tell(material: Material) -> None:
    for row in (*material.rows, *material.held):
        told = [question.target for question in row.questions]
        assert told.count(REFUSAL) >= 2
        if row.source == "bot":
            assert len(told) > 2


def test_the_words_of_the_faq_are_there_in_all_its_languages(material: Material) -> None:
    passages = list(material.passages())
    for entry in (*ENTRIES, CHINESE):
        assert {entry.question, entry.answer, *entry.variants} <= set(passages)


def test_other_entries_are_other_material() -> None:
    one = bot_material(ENTRIES, 24)
    assert one.digest() == bot_material(ENTRIES, 24).digest()
    changed = [replace(ENTRIES[0], answer="It is 99 euros."), *ENTRIES[1:]]
    assert one.digest() != bot_material(changed, 24).digest()
    assert one.digest() != bot_material(ENTRIES, 24, seed=8).digest()

import random

import pytest
from featherdesk.compress.corrupt import Corruption, corrupted

ANSWER = (
    "Yes, delivery to Keswick costs £4.95 and takes 3 to 5 working days if you order before 14:00 "
    "on Friday. Boots over 15 kg cannot be sent. Write to help@shop.example."
)
OTHERS = ["Gift cards are valid for 36 months from the last use in Bakewell."]


@pytest.mark.parametrize("kind", list(Corruption))
def test_every_way_changes_the_answer_and_a_seed_repeats_it(kind: Corruption) -> None:
    made = [corrupted(kind, ANSWER, OTHERS, random.Random(seed)) for seed in range(12)]
    assert any(made)
    assert ANSWER not in made
    assert made == [corrupted(kind, ANSWER, OTHERS, random.Random(seed)) for seed in range(12)]


@pytest.mark.parametrize("kind", [Corruption.PRICE, Corruption.DATE, Corruption.LINK])
def test_an_answer_without_such_a_fact_stays_as_it_is(kind: Corruption) -> None:
    assert corrupted(kind, "Boots cannot be sent.", OTHERS, random.Random(1)) is None


def test_a_changed_price_is_another_price() -> None:
    for seed in range(20):
        made = corrupted(Corruption.PRICE, ANSWER, OTHERS, random.Random(seed))
        assert made is not None
        assert "£4.95" not in made
        assert "3 to 5 working days" in made


def test_the_ends_of_a_range_are_never_exchanged() -> None:
    told = "It takes 3 to 5 working days."
    assert all(
        corrupted(Corruption.EXCHANGE, told, OTHERS, random.Random(seed)) is None
        for seed in range(10)
    )

import random

import pytest
from featherdesk.agent.spelling import Speller, mistyped

SPELLER = Speller.build(
    ["How much is delivery?", "Return a parcel", "delivery address"],
    {"house", "mending"}.__contains__,
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("delivry", "delivery"), ("retrun my parcl", "return my parcel"), ("adress", "address")],
)
def test_typing_mistakes_are_mended(typed: str, meant: str) -> None:
    assert SPELLER.mended(typed) == meant


@pytest.mark.parametrize("text", ["house", "mending", "xylophone", "a b", "运费", "Delivery!"])
def test_real_and_strange_words_stay(text: str) -> None:
    assert SPELLER.mended(text) == text


def test_a_typing_mistake_exchanges_two_letters_inside_a_word() -> None:
    rng = random.Random(1)
    for text in ("how long does delivery take", "Refunds?", "a bc def 退货"):
        told = mistyped(text, rng)
        assert sorted(told) == sorted(text)
        assert told[0] == text[0]
    assert mistyped("a bc def 退货", rng) == "a bc def 退货"

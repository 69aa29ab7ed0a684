import pytest
from featherdesk.agent.spelling import Speller

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

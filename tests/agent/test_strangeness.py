"""Another company's name and words that are none take the score down; the FAQ's own do not."""

import pytest
from featherdesk.agent.spelling import Speller
from featherdesk.agent.strangeness import FOREIGN, GIBBERISH, companies_in, doubt

TEXTS = ["Do you match the prices of Amazon?", "How long does delivery take?", "你们在天猫有店吗？"]
ENGLISH = frozenset(
    "how much is the luggage price when will my parcel arrive wifi of log in".split()
)
SPELLER = Speller.build(TEXTS, lambda word: word in ENGLISH)


def _doubt(question: str) -> float:
    return doubt(question, TEXTS, SPELLER)


@pytest.mark.parametrize(
    "question", ["luggage on Ryanair", "log in with facebook", "the wifi of LNER", "去淘宝买"]
)
def test_another_companys_name_is_doubtful(question: str) -> None:
    assert _doubt(question) == FOREIGN


@pytest.mark.parametrize(
    "question",
    ["is it the amazon price", "天猫店几点开门", "how much is delivery", "多久能到", "the gap"],
)
def test_a_name_that_the_faq_says_is_not(question: str) -> None:
    assert _doubt(question) == 0.0


@pytest.mark.parametrize("question", ["wqe rty uio", "0000000", "?!", "asdfgh qwertz zuiop the"])
def test_what_is_no_language_is_doubtful(question: str) -> None:
    assert _doubt(question) == GIBBERISH


def test_a_faq_about_other_companies_is_asked_about_others_too() -> None:
    texts = ["sync Gmail", "delete my Facebook account", "export from Twitter"]
    assert doubt("log in with linkedin", texts, Speller.build(texts, ENGLISH.__contains__)) == 0.0


def test_short_words_and_names_inside_words_are_no_sign() -> None:
    assert _doubt("uk?") == 0.0
    assert companies_in("a goatee, a tuition fee, ibmx") == []
    assert companies_in("H&M or McDonald's, or booking.com?") == [
        "h&m",
        "mcdonald's",
        "booking.com",
    ]

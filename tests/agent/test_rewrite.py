import pytest
from featherdesk.agent.rewrite import parts, refers_back, turn_before
from featherdesk.agent.types import Turn


@pytest.mark.parametrize(
    "text", ["and for students?", "is it free?", "那运费呢？", "what about sale items"]
)
def test_an_elliptical_question_leans_back(text: str) -> None:
    assert refers_back(text)


@pytest.mark.parametrize(
    "text", ["write me a poem", "How long does standard delivery take to Wales?"]
)
def test_a_whole_question_does_not(text: str) -> None:
    assert not refers_back(text)


def test_the_turn_before_is_the_customers_last() -> None:
    told = [Turn("user", "hello"), Turn("user", " do you ship to Spain? ")]
    assert turn_before([*told, Turn("assistant", "Yes.")]) == "do you ship to Spain?"
    assert turn_before([]) == ""


def test_two_questions_are_taken_apart() -> None:
    assert parts("How long is delivery and can I return worn boots?") == [
        "How long is delivery",
        "can I return worn boots",
    ]
    assert parts("运费多少？可以退货吗？") == ["运费多少", "可以退货吗"]


def test_one_question_stays_whole() -> None:
    assert parts("Can I pay with Visa?") == []
    assert parts("black and white") == []
    assert parts("") == []

import pytest
from featherdesk.agent.rewrite import Rewritten, parts, refers_back, rewritten, turn_before
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


LIST = "Which of these do you mean?\n1. Do gift cards expire?\n2. I lost my gift card, what now?"
ROW = "We have three stores: 14 Lake Road in Keswick, 3 Bridge Street in Bakewell and one in York."


def _after(said: str, before: str = "tell me about gift cards") -> list[Turn]:
    return [Turn("user", before), Turn("assistant", said)]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("the second one", "I lost my gift card, what now?"),
        ("2", "I lost my gift card, what now?"),
        ("no 2", "I lost my gift card, what now?"),
        ("number two please", "I lost my gift card, what now?"),
        ("the last of those", "I lost my gift card, what now?"),
        ("former", "Do gift cards expire?"),
        ("第一个", "Do gift cards expire?"),
        ("最后一个", "I lost my gift card, what now?"),
    ],
)
def test_an_ordinal_chooses_from_a_list(said: str, wanted: str) -> None:
    assert rewritten(said, _after(LIST)) == Rewritten(wanted)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("can i park by the first one", "can i park by 14 Lake Road in Keswick"),
        ("is the last one open", "is one in York open"),
        ("第二家开门吗", "3 Bridge Street in Bakewell 开门吗"),
    ],
)
def test_an_ordinal_in_a_question_is_filled_in(said: str, wanted: str) -> None:
    assert rewritten(said, _after(ROW, "where are you")).question == wanted


@pytest.mark.parametrize("said", ["the third one", "9", "my first order was late", ""])
def test_an_ordinal_that_points_nowhere_stays(said: str) -> None:
    assert rewritten(said, _after(LIST)).question == said
    assert rewritten(said, []) == Rewritten(said)


@pytest.mark.parametrize("said", ["the last one", "2", "最后一个", "what about the first one"])
def test_an_ordinal_after_a_bot_that_said_nothing_points_nowhere(said: str) -> None:
    assert rewritten(said, [Turn("user", "hello there")]).question == said
    assert rewritten(said, [Turn("user", "hello there"), Turn("assistant", "")]).question == said


@pytest.mark.parametrize(
    ("said", "before", "wanted"),
    [
        ("no, i meant the tent, not the boots", "guarantee on boots", ("the tent", "guarantee on")),
        ("sorry, from France i mean", "how do i return it", ("from France", "how do i return it")),
        ("不是打电话，我是说去店里", "你们几点上班", ("去店里", "你们几点上班")),
    ],
)
def test_a_correction_takes_back_what_was_wrong(
    said: str, before: str, wanted: tuple[str, str]
) -> None:
    asked = rewritten(said, _after("It is so.", before))
    assert (asked.question, asked.before) == wanted
    assert asked.leans


def test_a_correction_of_nothing_leans_on_what_was_said() -> None:
    asked = rewritten("not in there either", _after("Check your spam folder.", "no mail came"))
    assert asked == Rewritten("not in there either", "no mail came", leans=True)


def test_a_change_of_subject_stands_alone() -> None:
    assert not rewritten("do you sell climbing ropes in Leeds", _after(ROW)).leans


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("how much is postage, can i return worn boots", 2),
        ("do you repair zips & how long is the guarantee", 2),
        ("opening times on sunday? oh and is there parking", 2),
        ("can i pay by card or do you take cheques", 2),
        ("where do i park btw do you sell gift cards", 2),
        ("请问运费多少，另外可以退货吗", 2),
        ("my parcel is late, is it lost", 0),
        ("what happens to returned items, are they resold", 0),
        ("do you sell red and blue ropes", 0),
    ],
)
def test_questions_are_joined_in_many_ways(text: str, wanted: int) -> None:
    assert len(parts(text)) == wanted

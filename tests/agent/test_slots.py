"""Finding arguments in a customer's words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from featherdesk.agent.arguments import parameters_of, problems
from featherdesk.agent.slots import arguments_in, is_no, is_stop, is_yes

NOW = datetime(2025, 11, 24, 12, tzinfo=UTC)


def _found(text: str, properties: dict[str, Any], *asked: str) -> dict[str, object]:
    parameters = parameters_of({"type": "object", "properties": properties})
    return arguments_in(text, parameters, asked, NOW)


NUMBER = {"type": "string", "pattern": r"^[A-Z]{2}-\d{5}$"}
CITY = {"type": "string", "enum": ["York", "Leeds"], "x-words": {"York": ["约克"]}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("my order is AB-12345, thanks", "AB-12345"),
        ("ab-12345", "AB-12345"),
        ("订单号ＡＢ－１２３４５", "AB-12345"),
        ("订单号AB-12345怎么样了", "AB-12345"),
        ("XAB-123456", None),
    ],
)
def test_a_pattern_finds_what_stands_apart(text: str, wanted: str | None) -> None:
    assert _found(text, {"number": NUMBER}).get("number") == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("in york please", "York"),
        ("Yrok", "York"),
        ("Leads", "Leeds"),
        ("约克的店", "York"),
        ("Paris", None),
        ("a fork", None),
    ],
)
def test_a_choice_is_found_with_typing_mistakes_too(text: str, wanted: str | None) -> None:
    assert _found(text, {"city": CITY}).get("city") == wanted


@pytest.mark.parametrize(
    ("text", "asked", "wanted"),
    [
        ("2 tickets", False, 2),
        ("买2张", False, 2),
        ("1,299", True, 1299),
        ("two", True, 2),
        ("两张", True, 2),
        ("two", False, None),
        ("between 2 and 5", False, None),
        ("between 2 and 5", True, 2),
        ("9999", True, None),
        ("2.5", True, None),
    ],
)
def test_a_whole_number_is_taken_when_it_is_clear(
    text: str, asked: bool, wanted: int | None
) -> None:
    count = {"type": "integer", "minimum": 1, "maximum": 2000}
    found = _found(text, {"count": count}, *(["count"] if asked else []))
    assert found.get("count") == wanted


@pytest.mark.parametrize(("text", "wanted"), [("2,5 kg", 2.5), ("0.75", 0.75), ("3", 3)])
def test_a_decimal_is_read_with_point_or_comma(text: str, wanted: float) -> None:
    assert _found(text, {"kg": {"type": "number"}}, "kg") == {"kg": wanted}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("on Sunday", "2025-11-30"),
        ("sudnay?", "2025-11-30"),
        ("tomorrow", "2025-11-25"),
        ("24 December", "2025-12-24"),
        ("Dec 24th, 2026", "2026-12-24"),
        ("24/12", "2025-12-24"),
        ("3 January", "2026-01-03"),
        ("下周一", "2025-12-01"),
        ("周日", "2025-11-30"),
        ("12月24日", "2025-12-24"),
        ("next Monday", "2025-12-01"),
        ("Monday", "2025-11-24"),
        ("30 February", None),
        ("market 12", None),
        ("some day", None),
    ],
)
def test_a_day_is_found_in_both_languages(text: str, wanted: str | None) -> None:
    assert _found(text, {"day": {"type": "string", "format": "date"}}).get("day") == wanted


def test_a_day_is_counted_in_the_zone_of_its_parameter() -> None:
    day = {"type": "string", "format": "date", "x-timezone": "Pacific/Auckland"}
    assert _found("today", {"day": day}) == {"day": "2025-11-25"}


def test_a_mail_address_and_a_truth_are_found() -> None:
    mail = {"type": "string", "format": "email"}
    assert _found("it is Jo.Doe@mail.example.", {"m": mail}) == {"m": "Jo.Doe@mail.example"}
    truth = {"type": "boolean"}
    assert _found("yes please", {"b": truth}, "b") == {"b": True}
    assert _found("不要", {"b": truth}, "b") == {"b": False}
    assert _found("yes please", {"b": truth}) == {}


def test_free_text_is_taken_only_when_asked_for() -> None:
    assert _found("the left boot is torn", {"what": {"type": "string"}}) == {}
    assert _found(" the left boot is torn ", {"what": {"type": "string"}}, "what") == {
        "what": "the left boot is torn"
    }


def test_one_number_never_fills_two_slots_and_what_was_asked_comes_first() -> None:
    two = {
        "order": {"type": "string", "pattern": r"^\d{5}$"},
        "zip": {"type": "string", "pattern": r"^\d{5}$"},
    }
    assert _found("10234", two) == {"order": "10234"}
    assert _found("80331", two, "zip") == {"zip": "80331"}
    assert _found("10234 and 80331", two) == {"order": "10234", "zip": "80331"}


@pytest.mark.parametrize(
    "text", ["yes", "Yes, please!", "ok", "go ahead", "好的", "是的，谢谢", "可以"]
)
def test_a_clear_yes(text: str) -> None:
    assert is_yes(text)


@pytest.mark.parametrize(
    "text", ["yes but not today", "maybe", "no", "why?", "", "不", "yesterday", "is it free? ok"]
)
def test_not_a_clear_yes(text: str) -> None:
    assert not is_yes(text)


@pytest.mark.parametrize("text", ["no", "No.", "nope", "不", "不要", "don't"])
def test_a_no(text: str) -> None:
    assert is_no(text)


@pytest.mark.parametrize(
    "text",
    ["cancel", "never mind", "Actually, never mind.", "forget it", "算了", "那算了吧", "取消"],
)
def test_a_stop(text: str) -> None:
    assert is_stop(text)


@pytest.mark.parametrize(
    "text", ["can I cancel an order?", "10234", "取消订单要多久", "stop order 5"]
)
def test_not_a_stop(text: str) -> None:
    assert not is_stop(text)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"type": "list"}, "needs a type"),
        ({"type": ["string", "null"]}, "needs a type"),
        ({"type": "string", "anyOf": []}, "'anyOf' is not supported"),
        ({"type": "string", "pattern": "("}, "unterminated|missing"),
        ({"type": "string", "enum": []}, "enum must be a list"),
        ({"type": "string", "format": "uri"}, "format must be one of date, email"),
        ({"type": "integer", "minimum": "1"}, "minimum must be a number"),
        ({"type": "integer", "default": "x"}, "default does not fit"),
        ({"type": "string", "x-ask": "what?"}, "x-ask must be"),
        ({"type": "string", "x-words": {"a": ["b"]}}, "x-words must map"),
        ({"type": "string", "x-timezone": "Nowhere/At"}, "Nowhere/At"),
    ],
)
def test_a_schema_that_is_not_supported_says_what_is_wrong(
    told: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        parameters_of({"type": "object", "properties": {"p": told}})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, ["n is missing"]),
        ({"n": "1"}, ["n must be of type integer"]),
        ({"n": True}, ["n must be of type integer"]),
        ({"n": 11}, ["n must be 1 to 10"]),
        ({"n": 1, "d": "2025-02-30"}, ["d is not a date"]),
        ({"n": 1, "c": "x"}, ["c must be one of ['a']"]),
        ({"n": 1, "z": 1}, ["z is no parameter"]),
        ({"n": 1, "s": "x" * 201}, ["s must have 0 to 200 characters"]),
        ({"n": 1, "c": "a", "d": "2025-02-28"}, []),
    ],
)
def test_arguments_are_checked_against_the_schema(
    arguments: dict[str, object], said: list[str]
) -> None:
    properties = {
        "n": {"type": "integer", "minimum": 1, "maximum": 10},
        "d": {"type": "string", "format": "date"},
        "c": {"type": "string", "enum": ["a"]},
        "s": {"type": "string"},
    }
    schema = {"type": "object", "properties": properties, "required": ["n"]}
    assert problems(parameters_of(schema), arguments) == said

import pytest
from featherdesk.agent.claims import Kind, find_claims, plain
from featherdesk.agent.quantities import number_of, quantities


def _keys(text: str) -> set[str]:
    return {key for claim in find_claims(plain(text)) for key in claim.keys}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 weeks", "fourteen days"),
        ("24 hours", "1 day"),
        ("half an hour", "30 minutes"),
        ("£4.95", "4.95 pounds"),
        ("12 months", "one year"),
        ("12%", "12 percent"),
        ("2,000 kg", "2 tonnes"),
        ("2:30 pm", "14:30"),
        ("noon", "12:00"),
        ("18 December", "December 18th"),
        ("Sundays", "Sunday"),
        ("+44 1632 960 118", "(0)1632 960118"),
        ("https://www.shop.example/track/", "shop.example/track"),
        ("two and a half hours", "150 minutes"),
    ],
)
def test_equal_facts_have_a_key_in_common(one: str, other: str) -> None:
    assert _keys(f"It is {one}.") & _keys(f"It is {other}.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("30 days", "30 EUR"),
        ("30 days", "30 weeks"),
        ("5 days", "5 working days"),
        ("£10", "€10"),
        ("3:30pm", "3:30am"),
        ("14:00", "02:00"),
        ("18 December", "18 November"),
        ("help@shop.example", "help@shop.test"),
        ("5 kg", "5 km"),
    ],
)
def test_different_facts_have_none(one: str, other: str) -> None:
    assert not _keys(f"It is {one}.") & _keys(f"It is {other}.")


def test_a_range_gives_its_unit_to_both_ends() -> None:
    first, last = quantities("It takes 3 to 5 working days.")
    assert (first.key, last.key) == ("working day:3", "working day:5")
    assert (first.ends, last.ends) == ("first", "last")
    assert first.span == last.span == "working day:3-working day:5"


def test_the_days_of_a_list_share_their_month() -> None:
    assert {"25 december", "26 december"} <= _keys("closed on 25 and 26 December")


def test_what_was_counted_before_is_counted_again() -> None:
    assert "working day:2" in _keys("within 1 working day, or 2 in December")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("at least £25", "low"),
        ("£25 or more", "low"),
        ("up to 5 kg", "high"),
        ("within 30 days", "high"),
        ("no more than 5 kg", "high"),
        ("before 13:00", "high"),
        ("after 13:00", "low"),
        ("from 9:00 to 17:00", ""),
        ("it costs £25", ""),
    ],
)
def test_a_bound_is_read(text: str, bound: str) -> None:
    assert find_claims(text)[0].bound == bound


def test_a_name_is_no_word_that_opens_a_sentence() -> None:
    found = find_claims("Dogs are welcome in Bakewell. Parcels, Royal Mail and DPD. Keswick opens.")
    assert [c.text for c in found if not c.opening] == ["bakewell", "royal mail", "dpd"]
    assert [c.text for c in found if c.opening] == ["keswick"]


def test_the_verb_may_is_no_month() -> None:
    assert not [c for c in find_claims("It may take a while.") if c.kind is Kind.DATE]
    assert [c for c in find_claims("It is closed in May.") if c.kind is Kind.DATE]


@pytest.mark.parametrize(
    ("text", "value"),
    [("twenty-one", 21), ("one hundred and twenty", 120), ("1,500", 1500), ("4,95", 4.95)],
)
def test_a_number_is_read(text: str, value: float) -> None:
    assert number_of(text) == value
    assert number_of("1.2.3") is None
    assert number_of("shop") is None

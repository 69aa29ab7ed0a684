import pytest
from featherdesk.agent.clauses import clauses, contrary, courteous, sentences, stems


def test_a_sentence_falls_into_clauses_with_a_verb_each() -> None:
    found = clauses("No, tents and ropes cannot be wrapped, but we send a card if you ask.")
    assert [c.text for c in found] == [
        "tents, and ropes cannot be wrapped",
        "but we send a card",
        "if you ask.",
    ]
    assert [c.denied for c in found] == [True, False, False]
    assert "if" in found[2].limits


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Pets are allowed", "Pets are not allowed"),
        ("The shop is open on Sundays", "The shop is closed on Sundays"),
        ("Returns are free", "Returns cost a fee"),
        ("We never ask for it", "We ask for it"),
        ("There is a fee for small groups", "There is no fee for small groups"),
    ],
)
def test_the_contrary_is_seen(one: str, other: str) -> None:
    assert contrary(clauses(one)[0], clauses(other)[0])
    assert contrary(clauses(other)[0], clauses(one)[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The shop isn't open", "The shop is closed"),
        ("You can't return them", "You cannot return them"),
        ("They can only be returned if faulty", "They cannot be returned unless faulty"),
        ("Cancelling is free of charge", "Cancelling is free"),
        ("It takes two days", "It takes 2 days"),
    ],
)
def test_the_same_in_other_words_is_not(one: str, other: str) -> None:
    assert not contrary(clauses(one)[0], clauses(other)[0])


def test_courtesy_states_nothing() -> None:
    assert courteous("Hope that helps!")
    assert courteous("Let me know if you need anything else.")
    assert courteous("Of course.")
    assert not courteous("We send you a voucher.")


def test_sentences_end_at_full_stops_and_line_ends() -> None:
    assert sentences("Yes. It costs £4.95.\nCome in! 请在30天内退货。好。") == [
        "Yes.",
        "It costs £4.95.",
        "Come in!",
        "请在30天内退货。",
        "好。",
    ]


def test_number_words_are_digits() -> None:
    assert stems("within three days") == stems("within 3 days")

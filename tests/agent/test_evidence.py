import pytest
from featherdesk.agent.evidence import Evidence, sources_of
from featherdesk.agent.grounding import unsupported
from featherdesk.agent.types import Entry

SHOP = [
    "Standard delivery takes 3 to 5 working days and costs £4.95. Express costs £7.95.",
    "The York store opens Monday to Friday from 9:00 to 17:30. We answer within 1 working day, "
    "or 2 in December. Bring 2 photos within 30 days.",
]


@pytest.mark.parametrize(
    "reply",
    [
        "Delivery takes three to five working days.",
        "It takes up to 5 working days.",
        "It takes at least three working days.",
        "The store opens at 9am and closes at 5:30pm.",
        "The store is open from 9 to 17:30 on weekdays.",
        "In December we answer within 2 working days.",
        "Bring two photos.",
        "Delivery is 4.95 pounds.",
    ],
)
def test_a_fact_in_other_words_is_held(reply: str) -> None:
    assert unsupported(reply, SHOP) == ()


@pytest.mark.parametrize(
    ("reply", "culprit"),
    [
        ("Delivery takes 3 working days.", "3 working days"),
        ("Delivery takes 3 to 4 working days.", "4 working days"),
        ("Bring them within 30 weeks.", "30 weeks"),
        ("Bring £30.", "£30"),
        ("Bring 30 photos.", "30"),
        ("We answer within 1 day.", "1 day"),
        ("The store opens on Saturday.", "saturday"),
        ("The store opens at 9pm.", "9pm"),
        ("Delivery is €4.95.", "€4.95"),
        ("Call +44 1632 960 118.", "+44 1632 960 118"),
    ],
)
def test_a_fact_that_is_nowhere_is_named(reply: str, culprit: str) -> None:
    assert culprit in unsupported(reply, SHOP)


def test_a_day_within_a_range_is_held_when_the_customer_asked_for_it() -> None:
    reply = "Yes, the store opens on Tuesday."
    assert unsupported(reply, SHOP) == ("tuesday",)
    assert unsupported(reply, SHOP, "Are you open on Tuesday?") == ()
    assert unsupported("It opens on Sunday.", SHOP, "And on Sunday?") == ("sunday",)


def test_the_question_of_an_entry_states_nothing() -> None:
    entry = Entry("a", "Are pets allowed", "No, pets are not allowed.")
    evidence = Evidence.of(sources_of([entry]))
    assert [one.text for one in evidence.sentences] == ["No, pets are not allowed."]
    assert unsupported("Pets are allowed.", sources_of([entry]))


def test_a_link_counts_with_what_it_begins_with() -> None:
    source = ["Register at shop.example/returns or write to help@shop.example."]
    assert unsupported("Go to https://shop.example/returns.", source) == ()
    assert unsupported("Go to shop.example/return.", source) == ("shop.example/return",)
    assert unsupported("Write to info@shop.example.", source) == ("info@shop.example",)

import pytest
from featherdesk.agent.evidence import Evidence
from featherdesk.agent.reading import SENTENCE, Reading
from featherdesk.agent.sentence import Sentence

SOURCES = [
    "Parcels up to 5 kg cost £12.95 and parcels up to 15 kg cost £19.95. "
    "Items marked as clearance can only be returned if they are faulty. "
    "Keswick opens at 10:30, and Bakewell is closed on Sundays.",
    "You can cancel free of charge within 60 minutes of ordering.",
]


def _read(text: str, question: str = "") -> dict[str, float]:
    reading = Reading(Sentence(text), Evidence.of(SOURCES), {}, Sentence(question))
    return dict(zip(SENTENCE, reading.features, strict=True))


def test_a_copied_sentence_differs_in_nothing() -> None:
    for text in ("You can cancel free of charge within 60 minutes of ordering.",):
        found = _read(text)
        assert found.pop("short") > 0
        assert not any(found.values())


def test_joined_sentences_differ_in_little() -> None:
    found = _read(
        "Items marked as clearance can only be returned if they are faulty and Keswick opens at "
        "10:30."
    )
    assert found["uncovered"] == found["novel"] == found["contrary"] == 0


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("Parcels up to 5 kg cost £19.95.", "swapped"),
        ("Parcels up to 15 kg cost £12.95.", "disagreeing"),
        ("Keswick is closed on Sundays.", "misplaced"),
        ("Bakewell is open on Sundays.", "contrary"),
        ("Items marked as clearance can be returned if they are faulty.", "only_lost"),
        ("Items marked as clearance can only be returned.", "if_lost"),
        ("You cannot cancel free of charge within 60 minutes of ordering.", "not_edited"),
        ("You can cancel free of charge after 60 minutes of ordering.", "bounds_turned"),
        ("You can cancel free of charge within 90 minutes of ordering.", "unsupported"),
        ("We send a voucher with every parcel.", "promises"),
        ("Elephants dance beautifully.", "strange"),
    ],
)
def test_a_difference_is_seen(text: str, feature: str) -> None:
    assert _read(text)[feature] > 0


def test_words_of_the_question_are_half_as_strange() -> None:
    told = "You can cancel your kayak."
    assert 0 < _read(told, "Can I cancel my kayak?")["novel"] < _read(told)["novel"]

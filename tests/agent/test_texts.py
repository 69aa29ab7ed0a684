import pytest
from featherdesk.agent.texts import (
    _SENTENCES,
    REASONS,
    choices_in,
    headline,
    numbered,
    say,
    spoken,
)
from featherdesk.agent.types import HandoffReason


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_sentence_is_known_again_alone_and_after_a_cut_stream(language: str) -> None:
    for name in _SENTENCES[language]:
        text = say(name, language, "H-00012")
        for told in (text, f"The parcel costs\n\n{text}\n"):
            known = spoken(told)
            assert known is not None
            assert known.name == name
            assert known.number == ("H-00012" if "H-00012" in text else "")


def test_both_languages_have_the_same_sentences_and_all_differ() -> None:
    assert _SENTENCES["en"].keys() == _SENTENCES["zh"].keys()
    for sentences in _SENTENCES.values():
        assert len(set(sentences.values())) == len(sentences)


@pytest.mark.parametrize(
    "text", ["", "Hello!", "Which of these do you mean? The red one.", "H-00012"]
)
def test_other_text_is_not_ours(text: str) -> None:
    assert spoken(text) is None


def test_every_reason_has_words_for_staff() -> None:
    assert set(REASONS) == {reason.value for reason in HandoffReason}


def test_choices_are_numbered_and_known_again() -> None:
    text = numbered(say("clarify", "en"), ["Do gift\ncards expire?", "Lost card"])
    assert text == "Which of these do you mean?\n1. Do gift cards expire?\n2. Lost card"
    assert choices_in(text) == ["Do gift cards expire?", "Lost card"]
    told = spoken(text)
    assert told is not None
    assert told.name == "clarify"


def test_one_numbered_line_is_no_list() -> None:
    assert choices_in("1. Only this") == []
    assert headline("1. Only this") == "1. Only this"
    assert headline("Which?\n1. This\n2. That") == "Which?"

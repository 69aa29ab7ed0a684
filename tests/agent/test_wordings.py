"""The texts a skill asks with, and how they are known again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from featherdesk.agent.privacy import masked
from featherdesk.agent.runner import Runner
from featherdesk.agent.skills import Risk, SkillResult
from featherdesk.agent.wordings import Wording


@dataclass
class Plain:
    """A skill that leaves every text to us."""

    name: str = "plain"
    description: str = "Sends a sample."
    risk: Risk = Risk.WRITE
    confirm: bool = False
    timeout: float = 1.0
    examples: tuple[str, ...] = ("send me a sample",)
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {
            "type": "object",
            "properties": {
                "paint_colour": {"type": "string"},
                "gift": {"type": "boolean", "title": "a present"},
                "mail": {"type": "string", "format": "email"},
                "phone": {"type": "string", "x-private": True},
            },
            "required": ["paint_colour", "mail", "phone"],
        }
    )

    def run(self, arguments: Mapping[str, Any]) -> SkillResult:
        return SkillResult("Sent.")


@pytest.fixture
def wording() -> Wording:
    return Wording(Runner.of(Plain()))


def test_without_words_of_its_own_a_skill_asks_by_title(wording: Wording) -> None:
    assert wording.ask(("paint_colour",), "en") == "Please tell me: paint colour."
    assert wording.ask(("paint_colour",), "zh") == "请告诉我：paint colour。"


def test_private_values_are_asked_for_together_and_last(wording: Wording) -> None:
    assert wording.groups == (("paint_colour",), ("mail", "phone"))
    assert wording.ask(("mail", "phone"), "en") == "Please tell me: mail. Please tell me: phone."


def test_a_confirmation_shows_the_values_but_no_private_one(wording: Wording) -> None:
    told = {"paint_colour": "red\n" + "x" * 500, "gift": True, "mail": "jo@b.example"}
    text = wording.confirm(told, "en")
    assert text.startswith("Shall I go on? Sends a sample. paint colour: red xxx")
    assert "a present: yes;" in text
    assert "jo@b.example" not in text
    assert len(text) < 250


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("unread", [False, True])
def test_every_text_is_known_again_as_it_is_stored(
    wording: Wording, language: str, unread: bool
) -> None:
    for names in wording.groups:
        prompt = wording.read(masked(wording.ask(names, language, unread=unread)) + " \n")
        assert prompt is not None
        assert (prompt.asked, prompt.language, prompt.fresh) == (names, language, False)
    values = {"paint_colour": "call +44 1632 960 118", "gift": False}
    prompt = wording.read(masked(wording.confirm(values, language, unread=unread)))
    assert prompt is not None
    assert (prompt.asked, prompt.language) == ((), language)
    assert wording.shows(prompt, values)
    assert not wording.shows(prompt, {**values, "gift": True})


def test_a_question_after_a_result_voids_what_was_heard(wording: Wording) -> None:
    prompt = wording.read(f"There is none.\n{wording.ask(('paint_colour',), 'en')}")
    assert prompt is not None
    assert prompt.fresh


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It takes 3 to 5 days.",
        "Please tell me: paint colour. Or not.",
        "Shall I go on? Please answer yes or no.",
        "x" * 1_000_000,
    ],
)
def test_other_texts_are_not_taken_for_one(wording: Wording, text: str) -> None:
    assert wording.read(text) is None


def test_a_skill_that_only_reads_has_no_confirmation() -> None:
    asking, reading = Wording(Runner.of(Plain())), Wording(Runner.of(Plain(risk=Risk.READ)))
    assert reading.read(asking.confirm({}, "en")) is None

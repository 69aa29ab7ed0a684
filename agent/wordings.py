"""The fixed texts with which a skill asks, and how they are known again in a conversation.

That a turn of the bot reads like one of them is all that tells that a skill waits for an answer:
nothing else is kept. Stored turns are masked, so texts are compared masked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from .arguments import LANGUAGES
from .privacy import masked
from .runner import Runner

__all__ = ["Prompt", "Wording", "phrase"]

_SHOWN, _LONGEST = 80, 8000
_GAP = re.compile(r"\{(\w+)\}")
_PHRASES = {
    "en": {
        "ask": "Please tell me: {title}.",
        "unread": "Sorry, I could not read that.",
        "confirm": "Shall I go on? {what}",
        "yes_or_no": "Please answer yes or no.",
        "stopped": "All right, I have stopped. What else would you like to know?",
        "failed": "That does not work at the moment. Would you like to talk to a person?",
        "unclear": "I could not make that out. Would you like to talk to a person?",
        "person": "Would you like to talk to a person?",
    },
    "zh": {
        "ask": "请告诉我：{title}。",
        "unread": "抱歉，我没有看明白。",
        "confirm": "要继续吗？{what}",
        "yes_or_no": "请回答“是”或“不”。",
        "stopped": "好的，已经停止。请问还有什么可以帮您？",
        "failed": "这项服务现在用不了。您想联系人工客服吗？",
        "unclear": "我没能看明白。您想联系人工客服吗？",
        "person": "您想联系人工客服吗？",
    },
}


def phrase(name: str, language: str) -> str:
    """A sentence about skills, in English or Chinese."""
    return _PHRASES["zh" if language == "zh" else "en"][name]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A turn in which a skill asked: for arguments, or (`asked` empty) whether to go on.

    `fresh` tells that what was heard before is void, because it led to nothing.
    """

    asked: tuple[str, ...]
    language: str
    text: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Wording:
    """How a skill asks."""

    runner: Runner

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """What is asked for in one turn each: every required argument, then the private together.

        A private value is masked once its turn is over, so that all of them have to come in one.
        """
        needed = [p for p in self.runner.parameters if p.required]
        hidden = tuple(p.name for p in needed if p.private)
        return (*((p.name,) for p in needed if not p.private), *((hidden,) if hidden else ()))

    def ask(self, names: tuple[str, ...], language: str, *, unread: bool = False) -> str:
        """The question for some arguments; `unread` says first that the answer made no sense."""
        asks = [self._question(name, language) for name in names]
        return " ".join([phrase("unread", language), *asks] if unread else asks)

    def confirm(self, values: Mapping[str, object], language: str, *, unread: bool = False) -> str:
        """The question whether to go on with these arguments."""
        text = _GAP.sub(lambda gap: self._shown(gap[1], values, language), self._template(language))
        told = f"{text} {phrase('yes_or_no', language)}"
        return f"{phrase('unread', language)} {told}" if unread else told

    def shows(self, prompt: Prompt, values: Mapping[str, object]) -> bool:
        """Whether a confirmation asked about just these arguments."""
        return prompt.text == _normal(self.confirm(values, prompt.language))

    def read(self, text: str) -> Prompt | None:
        """What a turn of the bot asks for, if it is one of this skill's."""
        if len(text) > _LONGEST:
            return None
        told = _normal(text)
        for language in LANGUAGES:
            bare = told.removeprefix(f"{_normal(phrase('unread', language))} ")
            if self._is_confirmation(bare, language):
                return Prompt((), language, bare)
            for names in self.groups:
                if bare == _normal(self.ask(names, language)):
                    return Prompt(names, language, bare)
        for language, names in product(LANGUAGES, self.groups[:1]):
            if told.endswith(f" {_normal(self.ask(names, language))}"):
                return Prompt(names, language, told, fresh=True)
        return None

    def _question(self, name: str, language: str) -> str:
        parameter = next(p for p in self.runner.parameters if p.name == name)
        asks = parameter.schema.get("x-ask")
        if asks:
            return str(asks.get(language) or asks["en"])
        return phrase("ask", language).replace("{title}", parameter.title)

    def _template(self, language: str) -> str:
        own = self.runner.schema.get("x-confirm")
        if own:
            return str(own.get(language) or own["en"])
        gaps = "".join(
            f" {p.title}: {{{p.name}}};" for p in self.runner.parameters if not p.private
        )
        return phrase("confirm", language).replace("{what}", self.runner.description) + gaps

    def _shown(self, name: str, values: Mapping[str, object], language: str) -> str:
        if any(p.private for p in self.runner.parameters if p.name == name):
            return "•••"
        value = values.get(name, "–")
        if isinstance(value, bool):
            value = {"en": ("no", "yes"), "zh": ("否", "是")}[language][value]
        return " ".join(str(value).split())[:_SHOWN]

    def _is_confirmation(self, text: str, language: str) -> bool:
        """Whether a text has the words of the confirmation in order, whatever is between them."""
        if not self.runner.confirms:
            return False
        template = f"{self._template(language)} {phrase('yes_or_no', language)}"
        words = [" ".join(piece.split()) for piece in _GAP.split(template)[::2]]
        place = 0
        for piece in words:
            place = text.find(piece, place)
            if place < 0:
                return False
            place += len(piece)
        return text.startswith(words[0]) and text.endswith(words[-1])


def _normal(text: str) -> str:
    """A text as it is stored, in one line."""
    return " ".join(masked(text).split())

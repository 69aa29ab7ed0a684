"""The few sentences the bot says of itself, in English and Chinese, and how to know them again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "REASONS",
    "Spoken",
    "choices_in",
    "headline",
    "language_of",
    "numbered",
    "say",
    "spoken",
]

_NUMBERED = re.compile(r"^\s*\d{1,2}[.)、．]\s*(.+?)\s*$", re.MULTILINE)

_SENTENCES = {
    "en": {
        "no_answer": "I don't have a sure answer to that. Would you like to talk to a person?",
        "requested": "Of course, I'll put you through to a person.",
        "clarify": "Which of these do you mean?",
        "closest": "I have no sure answer to that. Is it one of these, or shall I ask a person?",
        "empty": "Please type a question.",
        "unsure": "I am still not sure what you mean. Is it one of these, or shall I ask a person?",
        "failed_twice": "I could not help with that either. Would you like to talk to a person?",
        "angry": "I am sorry for the trouble. Would you like to talk to a person?",
        "policy": "I may not answer that here. Would you like to talk to a person?",
        "skill_failed": "That did not work on our side. Would you like to talk to a person?",
        "again": "I still cannot answer that; you can ask for a person at any time.",
        "again_2": 'I have no answer to that one either. Type "talk to a person" and I ask one.',
        "choice": "I have no sure answer to that either. Is it one of these?",
        "choice_2": "I still do not know for sure. Could it be one of these?",
        "requested_2": "You will be put through to a person; there is no need to ask again.",
        "declined": "All right. Ask me anything else.",
        "asked": "A person will look at this conversation. Your number is {number}.",
        "asked_before": "A person has been asked already, number {number}.",
        "asked_before_2": "Your request {number} is waiting for our staff.",
        "unanswered": "I cannot answer that one; a person has been asked already, number {number}.",
        "unanswered_2": "I have no answer to that either. Your request {number} is with our staff.",
        "contact": "Thank you, noted for your request {number}.",
        "calm": "I'm sorry that this is so frustrating. Would you like to talk to a person?",
        "still_here": "I'm still here whenever you have a question.",
        "only_about": "I can only answer questions about {name}. What would you like to know?",
        "help_line": (
            "I'm very sorry that you are going through this. I am an automated assistant and "
            "cannot help in an emergency, but you are not alone. If you or someone near you is in "
            "danger, please call your local emergency number now (112, 999 or 911). You can talk "
            "to someone at any hour on a crisis line of your country, such as Samaritans."
        ),
    },
    "zh": {
        "no_answer": "这个问题我没有确切的答案。您想联系人工客服吗？",
        "requested": "好的，我为您转接人工客服。",
        "clarify": "您想问的是哪一个？",
        "closest": "这个问题我没有确切的答案。您想问的是下面哪一个，还是要联系人工客服？",
        "empty": "请输入您的问题。",
        "unsure": "我还是不太明白您的意思。您想问的是下面哪一个，还是要联系人工客服？",
        "failed_twice": "这个问题我也没能帮上忙。您想联系人工客服吗？",
        "angry": "很抱歉给您带来不便。您想联系人工客服吗？",
        "policy": "这个问题我不便在这里回答。您想联系人工客服吗？",
        "skill_failed": "我们这边出了点问题，没有办成。您想联系人工客服吗？",
        "again": "这个问题我还是答不上来；您随时可以要求人工客服。",
        "again_2": "这个问题我也没有答案。输入“人工客服”，我就为您联系。",
        "choice": "这个问题我也没有确切的答案。您想问的是下面哪一个？",
        "choice_2": "我还是不能确定。会不会是下面其中一个？",
        "requested_2": "会为您转接人工客服，无需再次要求。",
        "declined": "好的，您可以继续问我别的问题。",
        "asked": "人工客服会查看这段对话，您的编号是 {number}。",
        "asked_before": "已经为您联系人工客服，编号 {number}。",
        "asked_before_2": "您的请求 {number} 正在等待人工客服处理。",
        "unanswered": "这个问题我答不上来；已经为您联系人工客服，编号 {number}。",
        "unanswered_2": "这个问题我也没有答案。您的请求 {number} 已交给人工客服。",
        "contact": "谢谢，已记入您的请求 {number}。",
        "calm": "很抱歉让您这么生气。您想联系人工客服吗？",
        "still_here": "您有问题的时候，我随时都在。",
        "only_about": "我只能回答与{name}有关的问题。您想了解什么？",
        "help_line": (
            "听到您正在经历这些，我很难过。我是自动助手，无法处理紧急情况，但您并不孤单。"
            "如果您或身边的人有危险，请马上拨打当地的急救或报警电话（中国大陆：120、110）。"
            "您也可以随时拨打心理援助热线（中国大陆：12356），会有人听您说。"
        ),
    },
}
REASONS = {
    "requested": "the customer asked for a person",
    "out_of_scope": "nothing in the FAQ comes near the question",
    "low_confidence": "something in the FAQ is near, but not near enough",
    "not_in_entries": "the model found no answer in the nearest entries",
    "failed_twice": "two questions in a row went without an answer",
    "angry": "the customer is angry",
    "skill_failed": "a skill failed",
    "policy": "a rule forbids the bot to answer",
}


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence of ours by its name, with the number of a request where it tells one."""

    name: str
    number: str = ""


def say(name: str, language: str, number: str = "") -> str:
    """The sentence with a name, in the customer's language (English where we have none)."""
    return _SENTENCES.get(language, _SENTENCES["en"])[name].replace("{number}", number)


def spoken(text: str) -> Spoken | None:
    """The sentence of ours that a text ends with, whatever its language; None without one.

    It need not be all of the text: a stream that was cut short is followed by such a sentence, and
    a numbered list may follow it.
    """
    text = headline(text)
    for name, pattern in _patterns():
        found = pattern.search(text)
        if found is not None:
            return Spoken(name, "".join(found.groups()))
    return None


def numbered(text: str, choices: Sequence[str]) -> str:
    """A sentence and a line for each choice under it: `1. How do I pay?`"""
    lines = [f"{place}. {' '.join(choice.split())}" for place, choice in enumerate(choices, 1)]
    return "\n".join([text, *lines])


def choices_in(text: str) -> list[str]:
    """The lines of a numbered list of at least two; empty without one."""
    found = _NUMBERED.findall(text)
    return found if len(found) > 1 else []


def headline(text: str) -> str:
    """What stands before a numbered list; all of a text without one."""
    return _NUMBERED.split(text, maxsplit=1)[0].rstrip() if choices_in(text) else text


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The longest first: one sentence may end with another."""
    known = [pair for sentences in _SENTENCES.values() for pair in sentences.items()]
    return tuple(
        (name, re.compile(r"(H-\d{5,})".join(map(re.escape, sentence.split("{number}"))) + r"\s*$"))
        for name, sentence in sorted(known, key=lambda pair: -len(pair[1]))
    )


def language_of(text: str) -> str:
    """`zh` where a text holds Chinese characters, else `en`."""
    return "zh" if any("一" <= c <= "鿿" for c in text) else "en"

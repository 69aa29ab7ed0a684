"""The few sentences the bot says of itself, in English and Chinese."""

__all__ = ["say"]

_SENTENCES = {
    "en": {
        "no_answer": "I don't have a sure answer to that. Would you like to talk to a person?",
        "requested": "Of course, I'll put you through to a person.",
        "clarify": "Which of these do you mean?",
        "closest": "I have no sure answer to that. Is it one of these, or shall I ask a person?",
        "empty": "Please type a question.",
    },
    "zh": {
        "no_answer": "这个问题我没有确切的答案。您想联系人工客服吗？",
        "requested": "好的，我为您转接人工客服。",
        "clarify": "您想问的是哪一个？",
        "closest": "这个问题我没有确切的答案。您想问的是下面哪一个，还是要联系人工客服？",
        "empty": "请输入您的问题。",
    },
}


def say(name: str, language: str) -> str:
    """The sentence with a name, in the customer's language (English where we have none)."""
    return _SENTENCES.get(language, _SENTENCES["en"])[name]

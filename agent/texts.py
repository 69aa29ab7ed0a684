"""The few sentences the bot says of itself, in English and Chinese."""

__all__ = ["say"]

_SENTENCES = {
    "en": {
        "no_answer": "I don't have a sure answer to that. Would you like to talk to a person?",
        "requested": "Of course, I'll put you through to a person.",
        "clarify": "Which of these do you mean?",
        "closest": "I have no sure answer to that. Is it one of these, or shall I ask a person?",
        "empty": "Please type a question.",
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


def say(name: str, language: str) -> str:
    """The sentence with a name, in the customer's language (English where we have none)."""
    return _SENTENCES.get(language, _SENTENCES["en"])[name]

"""The words of the chat page, in English and Chinese."""

from dataclasses import dataclass

__all__ = ["WORDS", "Words", "language_of"]


@dataclass(frozen=True, slots=True)
class Words:
    """Labels and messages of the page in one language."""

    greeting: str
    placeholder: str
    send: str
    person: str
    contact_why: str
    contact: str
    note: str
    contact_send: str
    fresh: str
    suggested: str
    source: str
    choose: str
    reason: str
    reason_hint: str
    reason_send: str
    thanks: str
    language: str
    too_long: str
    offline: str
    busy: str
    chat: str


WORDS = {
    "en": Words(
        greeting="Hello! Ask me anything about **{name}**.",
        placeholder="Type your question…",
        send="Send",
        person="Talk to a person",
        contact_why="How can we reach you? Only our staff see this; it does not stay in the chat.",
        contact="E-mail or phone (optional)",
        note="Note or order number (optional)",
        contact_send="Pass on",
        fresh="New chat",
        suggested="You could ask",
        source="Source",
        choose="Choose one",
        reason="What was wrong?",
        reason_hint="For example: wrong price",
        reason_send="Send reason",
        thanks="Thank you, noted.",
        language="Language",
        too_long="Please keep it under {limit} characters.",
        offline="The server did not answer; please try again.",
        busy=(
            "Many people are asking at the moment. Your question is still in the box: please "
            "send it again shortly."
        ),
        chat="Conversation",
    ),
    "zh": Words(
        greeting="您好！关于 **{name}** 的问题都可以问我。",
        placeholder="请输入您的问题…",
        send="发送",
        person="联系人工客服",
        contact_why="我们怎样联系您？只有客服人员能看到，对话记录里不会保存。",
        contact="邮箱或电话（选填）",
        note="备注或订单号（选填）",
        contact_send="提交",
        fresh="新对话",
        suggested="您可以问",
        source="来源",
        choose="请选择",
        reason="哪里不对？",
        reason_hint="例如：价格不对",
        reason_send="提交原因",
        thanks="谢谢，已记录。",
        language="语言",
        too_long="请不要超过 {limit} 个字符。",
        offline="服务器没有回应，请再试一次。",
        busy="现在咨询的人较多。您的问题还在输入框里，请稍后再发送一次。",
        chat="对话",
    ),
}


def language_of(accept: str) -> str:
    """The page's language for an Accept-Language header."""
    return "zh" if accept.strip().lower().startswith("zh") else "en"

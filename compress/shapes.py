"""What a customer's text reads like, and the forms a sentence can take: closed, small, indirect.

Rules for English and Chinese. Knows nothing of what is said around a text.
"""

import re
from enum import StrEnum

from ..agent.evaluate import Case
from ..agent.rewrite import parts

__all__ = ["ASKING", "Shape", "closed", "indirect", "opened", "shape_of", "small"]

ASKING = (
    r"(?:what|how|when|where|which|who|whom|whose|why|can|could|may|must|should|shall|will|would|"
    r"do|does|did|is|are|am|was|were|has|have)\b"
)
"""How a question begins."""

_ASKS = re.compile(ASKING, re.IGNORECASE)
_TELLS = re.compile(
    r"(?:my|our|the|this|these|i|we|it)\b|.*\b(?:i|i'm|i've|i'd|we|we're|it's|is|are|was|were|isn't|"
    r"isnt|aren't|wasn't|didn't|don't|got|came|broke|says|want|need|lost|forgot|keeps|moved)\b",
    re.IGNORECASE,
)
_ORDERS = re.compile(
    r"(?:tell|give|write|sing|show|explain|find|act|pretend|ignore|turn|translate|recommend|stop|"
    r"cancel|let|see|go|learn|send|swap|change|play|read|make|open|use|pay)\b",
    re.IGNORECASE,
)
_ASKS_ZH = re.compile(
    "[吗么呢谁几哪啥]|多少|多久|多大|什么|如何|怎|能不能|可不可以|可以.*[?？]|是否"
)
_TELLS_ZH = re.compile("^(?!帮|给我|请|翻译|写|唱|讲|播|推荐).*[了我想要不没把]")
_CHINESE = re.compile("[一-鿿]")
_SMALL = re.compile(
    rf"(?:{ASKING}|(?:my|the|a|an|and|or|your|our|we|you|it|this|that|these|those|there|if|in|on|at|"
    r"for|to|from|somebody|someone|anything|anyone|what|even|also|then|not|just|how)\b(?!-))",
    re.IGNORECASE,
)
_AUX = "can|could|may|must|should|will|would"
_YES_NO = re.compile(
    rf"(?P<aux>{_AUX}|am|are|is|do) (?P<who>i|you|we|they|he|she|it|there) (?P<rest>[^?]+)",
    re.IGNORECASE,
)
_OPEN = re.compile(
    rf"(?P<word>how|when|where|why|what|which \w+) (?P<aux>{_AUX}|do) "
    r"(?P<who>i|you|we|they|it) (?P<rest>[^?]+)",
    re.IGNORECASE,
)


class Shape(StrEnum):
    """What a text reads like."""

    QUESTION = "question"
    SEVERAL = "several"
    LEANING = "leaning"
    REPORT = "report"
    ORDER = "order"
    KEYWORDS = "keywords"
    BARE = "bare"
    QUESTION_ZH = "question_zh"
    PLAIN_ZH = "plain_zh"
    REPORT_ZH = "report_zh"
    LEANING_ZH = "leaning_zh"


def shape_of(case: Case) -> Shape:
    """What the question of a case reads like; one with turns before it leans on them."""
    text = case.question.strip()
    if _CHINESE.search(text):
        if case.history:
            return Shape.LEANING_ZH
        if _ASKS_ZH.search(text):
            return Shape.QUESTION_ZH
        return Shape.REPORT_ZH if _TELLS_ZH.match(text) else Shape.PLAIN_ZH
    if case.history:
        return Shape.LEANING
    if len(set(re.findall(r"[^\W\d_]{2,}", text))) < 2:
        return Shape.BARE
    if len(case.entry_ids) > 1:
        return Shape.SEVERAL
    if _ASKS.match(text):
        return Shape.REPORT if parts(text) else Shape.QUESTION
    if _ORDERS.match(text):
        return Shape.ORDER
    return Shape.REPORT if _TELLS.match(text) else Shape.KEYWORDS


def small(text: str) -> str:
    """With a small first letter, where the first word is one that has none of its own."""
    return text[:1].lower() + text[1:] if _SMALL.match(text) else text


def opened(text: str) -> str:
    """Without the mark at its end."""
    return text.rstrip(" .?!。？！")


def closed(text: str) -> str:
    """As a sentence: a capital letter first and a mark at the end."""
    bare = opened(text)
    if _CHINESE.search(text):
        return bare + ("？" if _ASKS_ZH.search(text) else "。")
    last = re.split(r"[,;:.?!-] *", bare)[-1]
    asks = text.rstrip().endswith("?") or _ASKS.match(bare) or _ASKS.match(last)
    return bare[:1].upper() + bare[1:] + ("?" if asks else ".")


def indirect(text: str) -> str:
    """A question in the order of an indirect one ("if I can ..."); empty where no rule fits."""
    bare = opened(text)
    found = _YES_NO.fullmatch(bare)
    if found:
        aux = "" if found["aux"].lower() == "do" else f" {found['aux'].lower()}"
        return f"if {found['who']}{aux} {found['rest']}"
    found = _OPEN.fullmatch(bare)
    if not found:
        return ""
    word, aux, who = found["word"].lower(), found["aux"].lower(), found["who"]
    if word == "how" and aux == "do" and who.lower() in {"i", "we"}:
        return f"how to {found['rest']}"
    return f"{word} {who}{'' if aux == 'do' else f' {aux}'} {found['rest']}"

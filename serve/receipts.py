"""The receipt as the chat page shows it: a small link under a reply that opens a card.

Plain sentences for customers first, figures after them. Everything that is not ours is escaped.
Knows nothing of how a reply was made.
"""

import html
from dataclasses import dataclass

from ..agent.receipt import Considered, Receipt

__all__ = ["receipt_html"]

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class _Labels:
    why: str
    authors: dict[str, str]
    routes: dict[str, str]
    reasons: dict[str, str]
    sure: str
    needed: str
    words: str
    considered: str
    source: str
    read: str
    guards: str
    no_guards: str
    model: str
    time: str
    rejected: str
    cached: str
    steps: dict[str, str]


_LABELS = {
    "en": _Labels(
        why="Why this answer?",
        authors={
            "model": "A small language model wrote this from the words below. Every number, date, "
            "name and link in it was found there.",
            "curated": "This is our own text, word for word.",
            "fallback": "This is our own text, word for word: what the language model wrote was "
            "not fully backed by it and was not sent.",
            "skill": "This was looked up for you.",
        },
        routes={
            "clarify": "Several of our answers come near your question, none near enough to choose "
            "for you.",
            "handoff": "Nothing in our answers comes near enough, so nothing was made up.",
        },
        reasons={
            "not_in_entries": "The nearest of our answers do not hold what you asked, so nothing "
            "was made up.",
            "policy": "This is something the assistant may not answer.",
            "skill_failed": "Looking this up did not work.",
            "angry": "This sounded like something a person should take care of.",
        },
        sure="Match",
        needed="needed",
        words="The words it stands on",
        considered="What was looked at",
        source="source",
        read="read",
        guards="Safeguards",
        no_guards="none had to act",
        model="Model",
        time="Time",
        rejected="Not backed",
        cached="written to an earlier customer",
        steps={
            "route": "search",
            "first_token": "first word",
            "generate": "writing",
            "check": "checking",
            "total": "in all",
        },
    ),
    "zh": _Labels(
        why="为什么这样回答？",
        authors={
            "model": "这段话由一个小型语言模型根据下面的原文写成，其中每个数字、日期、"
            "名称和链接都能在原文中找到。",
            "curated": "这是我们的原文，一字未改。",
            "fallback": "这是我们的原文，一字未改：语言模型写的内容没有得到原文的充分支持，"
            "所以没有发送。",
            "skill": "这是为您查询到的结果。",
        },
        routes={
            "clarify": "我们有几个答案与您的问题相近，但都不足以替您选定。",
            "handoff": "我们的答案中没有与您的问题足够接近的，所以没有编造回答。",
        },
        reasons={
            "not_in_entries": "最接近的答案里没有您要问的内容，所以没有编造回答。",
            "policy": "这类问题助手不能回答。",
            "skill_failed": "查询没有成功。",
            "angry": "这件事更适合由人工客服来处理。",
        },
        sure="匹配度",
        needed="需要",
        words="回答依据的原文",
        considered="查看过的条目",
        source="来源",
        read="已读",
        guards="安全检查",
        no_guards="均未触发",
        model="模型",
        time="用时",
        rejected="无依据",
        cached="此前回答同样问题时所写",
        steps={
            "route": "检索",
            "first_token": "首字",
            "generate": "生成",
            "check": "核对",
            "total": "总计",
        },
    ),
}


def receipt_html(receipt: Receipt, language: str) -> str:
    """The link and its card as one line of HTML; empty where the reply explains itself."""
    if receipt.route == "smalltalk" or receipt.reason == "requested":
        return ""
    labels = _LABELS.get(language, _LABELS["en"])
    parts = [f"<p>{_text(_told(receipt, labels))}</p>"]
    if receipt.considered:
        parts.append(_match(receipt, labels))
    words = [words for cited in receipt.cited for words in cited.words]
    if words:
        quoted = "".join(f"<blockquote>{_text(quote)}</blockquote>" for quote in words)
        parts.append(f"<h6>{labels.words}</h6>{quoted}")
    if receipt.considered:
        sources = {cited.entry_id for cited in receipt.cited}
        rows = "".join(_row(one, one.entry_id in sources, labels) for one in _listed(receipt))
        parts.append(f"<h6>{labels.considered}</h6><ul>{rows}</ul>")
    parts.append(f"<dl>{''.join(_facts(receipt, labels))}</dl>")
    return (
        f'<details class="why"><summary>{labels.why}</summary>'
        f'<div class="receipt">{"".join(parts)}</div></details>'
    )


def _told(receipt: Receipt, labels: _Labels) -> str:
    if receipt.route in labels.routes:
        return labels.reasons.get(receipt.reason, labels.routes[receipt.route])
    return labels.authors.get(receipt.author, "")


def _match(receipt: Receipt, labels: _Labels) -> str:
    """The score as a bar, with a mark where the threshold stands."""
    score, needed = _percent(receipt.score), _percent(receipt.threshold)
    told = f"{labels.sure} {score}\N{NO-BREAK SPACE}% · {labels.needed} {needed}\N{NO-BREAK SPACE}%"
    mark = f'<i class="mark" style="left:{needed}%"></i>'
    return f'<div class="match"><span>{told}</span>{_bar(score, mark)}</div>'


def _bar(percent: int, mark: str = "") -> str:
    return f'<span class="bar"><i style="width:{percent}%"></i>{mark}</span>'


def _listed(receipt: Receipt) -> list[Considered]:
    """The first few, and every source."""
    cited = {cited.entry_id for cited in receipt.cited}
    return [
        one
        for place, one in enumerate(receipt.considered)
        if place < _SHOWN or one.entry_id in cited
    ]


def _row(one: Considered, cited: bool, labels: _Labels) -> str:
    score = _percent(one.score)
    role = labels.source if cited else labels.read if one.passed else ""
    mark = f" <b>{role}</b>" if role else ""
    kind = ' class="source"' if cited else ""
    return (
        f"<li{kind}><span>{_text(one.matched or one.entry_id)}{mark}</span>"
        f"{_bar(score)}<small>{score} %</small></li>"
    )


def _facts(receipt: Receipt, labels: _Labels) -> list[str]:
    steps = [f"{labels.steps.get(name, name)} {ms:.0f} ms" for name, ms in receipt.ms.items()]
    told = {
        labels.model: receipt.model + (f", {labels.cached}" if receipt.cached else ""),
        labels.rejected: ", ".join(receipt.rejected),
        labels.guards: ", ".join(receipt.guards) or labels.no_guards,
        labels.time: " · ".join(steps),
    }
    return [
        f"<div><dt>{name}</dt><dd>{_text(fact)}</dd></div>" for name, fact in told.items() if fact
    ]


def _percent(share: float) -> int:
    return round(100 * min(max(share, 0.0), 1.0))


def _text(text: str) -> str:
    """On one line, since an empty line ends HTML in Markdown; `$` would begin a formula."""
    return html.escape(" ".join(text.split())).replace("$", "&#36;")

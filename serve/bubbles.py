"""What a conversation is shown as: bubbles with their sources and the link to the receipt."""

from typing import Any

from ..agent.conversations import Message
from ..agent.engine import Agent
from ..agent.receipt import Receipt
from ..agent.types import Citation, Reply, RouteKind
from .receipts import receipt_html
from .render import safe_markdown
from .words import WORDS

__all__ = ["Bubble", "bubble", "reply_bubbles", "stored_bubbles"]

Bubble = dict[str, Any]
_SOURCES = 3
_FROM_ENTRIES = frozenset({RouteKind.ANSWER.value, RouteKind.VERBATIM.value})


def bubble(role: str, text: str) -> Bubble:
    """Plain text as a bubble."""
    return {"role": role, "content": safe_markdown(text)}


def reply_bubbles(agent: Agent, reply: Reply, language: str) -> list[Bubble]:
    """A reply with its sources and its receipt."""
    shown = [bubble("assistant", reply.text)]
    if reply.route.kind in _FROM_ENTRIES:
        shown += [_source(citation, language) for citation in reply.citations[:_SOURCES]]
    return shown + _receipt(agent, Receipt.of(reply), language)


def stored_bubbles(agent: Agent, message: Message, language: str) -> list[Bubble]:
    """A message with what was stored with it; sources as they stand in the FAQ now."""
    shown = [bubble("user" if message.role == "user" else "assistant", message.text)]
    receipt = Receipt.from_json(message.receipt)
    if message.route in _FROM_ENTRIES:
        ids = [cited.entry_id for cited in receipt.cited] if receipt else [message.entry_id]
        known = {entry.id: entry for entry in agent.router.index.entries}
        entries = [known[entry_id] for entry_id in ids[:_SOURCES] if entry_id in known]
        shown += [_source(Citation(e.id, e.answer, e.question, e.url), language) for e in entries]
    return shown + _receipt(agent, receipt, language)


def _source(citation: Citation, language: str) -> Bubble:
    """A source that opens: the curated text with its link."""
    link = f"\n{citation.url}" if citation.url else ""
    return {
        "role": "assistant",
        "content": safe_markdown(citation.quote + link),
        "metadata": {"title": f"{WORDS[language].source}: {citation.question}", "status": "done"},
    }


def _receipt(agent: Agent, receipt: Receipt | None, language: str) -> list[Bubble]:
    """Nothing where the bot shows none, or the reply explains itself."""
    if receipt is None or not agent.config.page.receipts:
        return []
    content = receipt_html(receipt, language)
    return [{"role": "assistant", "content": content}] if content else []

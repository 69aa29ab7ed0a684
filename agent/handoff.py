"""A person is asked for: the request, and the summary that staff get of it.

Made from the store, so that it is the same after a restart. Knows nothing of pages or of how a
summary is delivered.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from .conversations import Message, Store
from .receipt import Considered, Receipt
from .stages import Handoff as Settings
from .texts import REASONS, language_of, say
from .types import Handoff, HandoffReason, Reply

__all__ = ["Line", "Summary", "ask_for_person", "summarize", "taken"]

_LINES = 40
_WHO = {"user": "customer", "assistant": "bot"}


@dataclass(frozen=True, slots=True)
class Line:
    """A message as staff read it; `route` and `reason` tell how a reply came about."""

    role: str
    text: str
    route: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What staff need to take over; the conversation is masked, contact and note are not.

    `considered` holds the entries looked at for the last question that had any.
    """

    number: str
    reason: str
    at: str
    language: str
    contact: str
    note: str
    conversation: tuple[Line, ...]
    considered: tuple[Considered, ...]
    bot: str = ""
    revision: int = 1

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """As plain text."""
        lines = [
            f"Hand-off {self.number}: {REASONS.get(self.reason, self.reason)} ({self.reason})",
            f"Asked for: {self.at}   Language: {self.language}"
            + (f"   Bot: {self.bot}" if self.bot else ""),
            f"Contact: {self.contact or 'none given'}",
        ]
        if self.note:
            lines.append(f"Note: {_indented(self.note)}")
        lines += ["", "Conversation (personal data masked)"]
        lines += [_line(line) for line in self.conversation] or ["  none"]
        lines += ["", "Entries considered for the last question"]
        lines += [
            f"  {one.score:.2f}  {one.entry_id}: {one.matched}" for one in self.considered
        ] or ["  none"]
        return "\n".join(lines) + "\n"


def _line(line: Line) -> str:
    how = " ".join(part for part in (line.route, line.reason) if part)
    told = f"  [{how}]" if how else ""
    return f"  {_WHO.get(line.role, line.role):9} {_indented(line.text)}{told}"


def _indented(text: str) -> str:
    return text.replace("\n", "\n            ")


def summarize(store: Store, number: str, bot: str = "") -> Summary | None:
    """The summary of the request with a number; None where there is none."""
    request = store.request(number)
    if request is None:
        return None
    messages = store.history(request.key)
    receipts = [Receipt.from_json(message.receipt) for message in messages]
    seen = [receipt for receipt in receipts if receipt is not None and receipt.considered]
    return Summary(
        number=request.number,
        reason=request.reason,
        at=request.at,
        language=_language(messages, request.note),
        contact=request.contact,
        note=request.note,
        conversation=tuple(
            Line(m.role, m.text, m.route, receipt.reason if receipt else "")
            for m, receipt in zip(messages, receipts, strict=True)
        )[-_LINES:],
        considered=seen[-1].considered if seen else (),
        bot=bot,
        revision=request.revision,
    )


def _language(messages: list[Message], note: str) -> str:
    """Chinese where the customer writes it, else English."""
    written = note + "".join(message.text for message in messages if message.role == "user")
    return "zh" if any("一" <= c <= "鿿" for c in written) else "en"


def ask_for_person(store: Store, key: str, settings: Settings, *, delay: float = 0.0) -> str:
    """Record that a conversation wants a person; returns its number, the same the second time.

    When the bot has just failed to answer, the reason is that.
    """
    history = store.history(key)
    last = Receipt.from_json(history[-1].receipt) if history else None
    reason = last.reason if last and last.reason else HandoffReason.REQUESTED.value
    return store.hand_off(key, reason, channels=settings.channels, delay=delay)


def taken(store: Store, key: str, reply: Reply, settings: Settings, *, delay: float = 0.0) -> Reply:
    """The reply, with the number of the request when it was one for a person.

    Every other reply comes back as it is, and so does one that names a request already.
    """
    if reply.handoff is None or reply.handoff.reason is not HandoffReason.REQUESTED:
        return reply
    if reply.handoff.number is not None:
        return reply
    number = ask_for_person(store, key, settings, delay=delay)
    language = language_of(reply.text)
    handoff = Handoff(reply.handoff.reason, number)
    return replace(reply, text=say("asked", language, number), handoff=handoff)

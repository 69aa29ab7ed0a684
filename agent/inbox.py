"""What a person should look at: hand-offs, thumbs down and unanswered questions of the store.

And what customers taught: a question that was answered by choosing an entry is an example of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sql
from sqlalchemy.orm import Session

from .offers import OFFERED
from .outbox import deliveries, number_of
from .receipt import Receipt
from .tables import FeedbackRow, HandoffRow, MessageRow
from .types import RouteKind

__all__ = ["InboxItem", "inbox_of", "iso"]

_ANSWERED = frozenset({RouteKind.ANSWER.value, RouteKind.VERBATIM.value})


@dataclass(frozen=True, slots=True)
class InboxItem:
    """Something a person should look at; `question` and `answer` are a FAQ row in the making."""

    kind: str
    at: str
    question: str
    answer: str
    entry_id: str
    note: str
    number: str
    contact: str = ""
    delivery: str = ""


def inbox_of(session: Session) -> list[InboxItem]:
    """All that is open, newest first."""
    choices = dict(_choices(session))
    items = [
        *_handoffs(session),
        *_thumbs_down(session),
        *(item for item in _unanswered(session) if item.number not in choices),
        *choices.values(),
    ]
    return sorted(items, key=lambda item: item.at, reverse=True)


def iso(at: datetime) -> str:
    """A time as ISO 8601 text; one without a zone is taken as UTC."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat(timespec="seconds")


def _handoffs(session: Session) -> Iterator[InboxItem]:
    told = deliveries(session.connection())
    for row in session.scalars(sql.select(HandoffRow)):
        asked = session.scalar(
            sql.select(MessageRow.text)
            .where(MessageRow.conversation == row.conversation, MessageRow.role == "user")
            .order_by(MessageRow.id.desc())
            .limit(1)
        )
        yield InboxItem(
            "handoff",
            iso(row.at),
            asked or "",
            "",
            "",
            row.note or row.reason,
            number_of(row.id),
            row.contact,
            told.get(row.id, ""),
        )


def _thumbs_down(session: Session) -> Iterator[InboxItem]:
    rows = session.execute(
        sql.select(FeedbackRow, MessageRow)
        .join(MessageRow, FeedbackRow.message_id == MessageRow.id)
        .where(FeedbackRow.good.is_(False))
    )
    for row in rows.all():
        feedback, told = row[0], row[1]
        yield InboxItem(
            "thumb_down",
            iso(feedback.at),
            _asked_before(session, told),
            told.text,
            told.entry_id,
            feedback.reason,
            str(told.id),
        )


def _unanswered(session: Session) -> Iterator[InboxItem]:
    """Questions that ended with the offer of a person or of entries to choose from."""
    rows = session.scalars(
        sql.select(MessageRow).where(
            MessageRow.role == "assistant",
            MessageRow.route.in_([RouteKind.HANDOFF.value, RouteKind.CLARIFY.value]),
        )
    )
    for told in rows:
        yield InboxItem(
            "unanswered",
            iso(told.at),
            _asked_before(session, told),
            "",
            told.entry_id,
            "",
            str(told.id),
        )


def _choices(session: Session) -> Iterator[tuple[str, InboxItem]]:
    """Questions whose answer the customer chose among the entries offered, by the offer's number.

    That is told by the next reply: it answers from one of the entries that were offered.
    """
    offers = sql.select(MessageRow).where(
        MessageRow.role == "assistant", MessageRow.route == RouteKind.CLARIFY.value
    )
    for told in session.scalars(offers):
        receipt = Receipt.from_json(told.receipt)
        offered = {one.entry_id for one in receipt.considered[:OFFERED]} if receipt else set()
        after = session.scalar(
            sql.select(MessageRow)
            .where(
                MessageRow.conversation == told.conversation,
                MessageRow.role == "assistant",
                MessageRow.id > told.id,
            )
            .order_by(MessageRow.id)
            .limit(1)
        )
        if after is None or after.entry_id not in offered or after.route not in _ANSWERED:
            continue
        asked, number = _asked_before(session, told), str(told.id)
        yield (
            number,
            InboxItem("choice", iso(told.at), asked, "", after.entry_id, "", number),
        )


def _asked_before(session: Session, told: MessageRow) -> str:
    return (
        session.scalar(
            sql.select(MessageRow.text)
            .where(
                MessageRow.conversation == told.conversation,
                MessageRow.role == "user",
                MessageRow.id < told.id,
            )
            .order_by(MessageRow.id.desc())
            .limit(1)
        )
        or ""
    )

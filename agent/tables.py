"""The tables of the store, as SQLAlchemy sees them. Knows nothing of what is asked of them."""

from datetime import datetime

import sqlalchemy as sql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "FeedbackRow", "HandoffRow", "MessageRow"]


class Base(DeclarativeBase):
    """What the tables share."""


class MessageRow(Base):
    """A question or a reply, masked."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation: Mapped[str] = mapped_column(sql.String(64), index=True)
    at: Mapped[datetime] = mapped_column(sql.DateTime(timezone=True))
    role: Mapped[str] = mapped_column(sql.String(16))
    text: Mapped[str] = mapped_column(sql.Text)
    route: Mapped[str] = mapped_column(sql.String(16), default="")
    author: Mapped[str] = mapped_column(sql.String(16), default="")
    entry_id: Mapped[str] = mapped_column(sql.String(200), default="")
    confidence: Mapped[float] = mapped_column(default=0.0)
    receipt: Mapped[str] = mapped_column(sql.Text, default="")


class FeedbackRow(Base):
    """A thumb on a reply, with its reason."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(sql.ForeignKey("messages.id"), unique=True)
    at: Mapped[datetime] = mapped_column(sql.DateTime(timezone=True))
    good: Mapped[bool] = mapped_column()
    reason: Mapped[str] = mapped_column(sql.Text, default="")


class HandoffRow(Base):
    """A request for a person."""

    __tablename__ = "handoffs"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation: Mapped[str] = mapped_column(sql.String(64), index=True)
    at: Mapped[datetime] = mapped_column(sql.DateTime(timezone=True))
    reason: Mapped[str] = mapped_column(sql.String(40))
    note: Mapped[str] = mapped_column(sql.Text, default="")
    contact: Mapped[str] = mapped_column(sql.Text, default="", server_default="")
    revision: Mapped[int] = mapped_column(default=1, server_default="1")

"""The store: conversations, thumbs and hand-off requests, through SQLAlchemy.

Personal data is masked by pattern before anything is written, but for what a customer leaves on
purpose with a hand-off; names are taken out right after it, in the background. SQLite beside the
bot unless a URL is given. Knows nothing of pages or of how replies are made.
"""

import json
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.orm import Session

from .errors import FeatherdeskError
from .inbox import InboxItem, inbox_of, iso
from .migrate import migrate
from .outbox import Outbox, enqueue, number_of
from .privacy import masked
from .receipt import Receipt
from .redaction import Finder, NameFinder, Redactor, public_words, wanted
from .tables import Base, FeedbackRow, HandoffRow, MessageRow
from .types import Reply, RouteKind, Turn
from .unredacted import Unredacted

__all__ = ["InboxItem", "Message", "Request", "Store", "new_key"]

KEY_BYTES = 24
_MAX_TEXT = 4000
_MAX_CONTACT = 200
_MARGIN = 100


def new_key() -> str:
    """A random conversation key of 192 bits, safe in a URL."""
    return secrets.token_urlsafe(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message; `id` is what feedback refers to, `receipt` a reply's as JSON."""

    id: int
    role: str
    text: str
    route: str
    entry_id: str
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A hand-off that was asked for, in the conversation with a key.

    `contact` and `note` are the customer's own words to staff, not masked; each change of them
    is a new `revision`.
    """

    number: str
    key: str
    at: str
    reason: str
    note: str
    contact: str
    revision: int


class Store:
    """Conversations in a database; safe to use from several threads."""

    _unredacted: Unredacted | None = None
    _redactor: Redactor | None = None

    def __init__(self, url: str) -> None:
        options = {"connect_args": {"check_same_thread": False}} if "sqlite" in url else {}
        try:
            self._engine = sql.create_engine(url, **options)
            migrate(self._engine, Base.metadata)
            self.outbox = Outbox(self._engine)
            self.outbox.create()
        except (sql.exc.SQLAlchemyError, ModuleNotFoundError) as error:
            raise FeatherdeskError(
                f"the conversation store cannot be opened: {_short(error)}; "
                "check storage.url in bot.toml"
            ) from None
        self._handing_off = threading.Lock()

    @classmethod
    def beside(cls, folder: Path, url: str = "", redact_names: str = "off") -> "Store":
        """The store of a bot: its configured URL, or conversations.db beside the bot folder.

        `redact_names` is the setting of bot.toml, for who writes.

        Raises:
            MissingExtraError: it is `on` and the extra `pii` is not installed.
        """
        redact = wanted(redact_names)
        here = f"sqlite:///{(folder.resolve().parent / 'conversations.db').as_posix()}"
        store = cls(url or here)
        if redact:
            words = public_words(folder / "knowledge" / "entries.jsonl")
            store.redact_with(NameFinder(words))
        return store

    def redact_with(self, finder: Finder) -> None:
        """Let names be taken out of what is stored from now on, and of what still waits."""
        self._unredacted = Unredacted(self._engine)
        self._redactor = Redactor(self._unredacted, finder)
        self._redactor.wake()

    def _later(self, session: Session, place: str, row: int) -> None:
        """Let the text of a row wait for the redactor, in the transaction that stores it."""
        if self._unredacted is not None:
            self._unredacted.put(session, place, row)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with Session(self._engine) as session, session.begin():
                yield session
        except sql.exc.SQLAlchemyError as error:
            raise FeatherdeskError(
                f"the conversation could not be stored: {_short(error)}"
            ) from None

    def add(self, key: str, question: str, reply: Reply) -> int:
        """Store a question with its reply, masked; returns the reply's id."""
        public = (reply.route.reply, *(citation.quote for citation in reply.citations))
        with self._session() as session:
            asked = MessageRow(
                conversation=key,
                at=_now(),
                role="user",
                text=_kept(question),
            )
            session.add(asked)
            session.flush()
            self._later(session, "messages", asked.id)
            told = MessageRow(
                conversation=key,
                at=_now(),
                role="assistant",
                text=_kept(reply.text, public),
                route=reply.route.kind.value,
                author=reply.author.value,
                entry_id=reply.entry_id or "",
                confidence=reply.route.confidence,
                receipt=json.dumps(Receipt.of(reply).to_json(), ensure_ascii=False),
            )
            session.add(told)
            session.flush()
            number = told.id
        self._wake()
        return number

    def history(self, key: str) -> list[Message]:
        """The messages of a conversation, oldest first."""
        with self._session() as session:
            rows = session.scalars(
                sql.select(MessageRow).where(MessageRow.conversation == key).order_by(MessageRow.id)
            )
            return [Message(r.id, r.role, r.text, r.route, r.entry_id, r.receipt) for r in rows]

    def tell(self, key: str, text: str) -> int:
        """Store what the bot said of itself, as no answer to a question; returns its id."""
        with self._session() as session:
            told = MessageRow(conversation=key, at=_now(), role="assistant", text=_kept(text))
            session.add(told)
            session.flush()
            return told.id

    def remember(self, key: str, turns: Sequence[Turn]) -> None:
        """Store the turns that a client holds itself, so that staff can read them."""
        with self._session() as session:
            session.add_all(
                MessageRow(conversation=key, at=_now(), role=turn.role, text=_kept(turn.content))
                for turn in turns
            )

    def turns(self, key: str) -> list[Turn]:
        """The conversation as turns for the engine."""
        return [
            Turn("user" if m.role == "user" else "assistant", m.text) for m in self.history(key)
        ]

    def rate(self, message_id: int, *, good: bool, reason: str = "") -> None:
        """Keep a thumb; a second one replaces the first.

        Raises:
            FeatherdeskError: there is no such reply.
        """
        with self._session() as session:
            if session.get(MessageRow, message_id) is None:
                raise FeatherdeskError(f"there is no reply number {message_id}")
            known = session.scalar(
                sql.select(FeedbackRow).where(FeedbackRow.message_id == message_id)
            )
            if known is None:
                known = FeedbackRow(message_id=message_id, at=_now(), good=good)
                session.add(known)
            known.good, known.reason, known.at = good, _kept(reason), _now()
            session.flush()
            self._later(session, "feedback", known.id)
        self._wake()

    def hand_off(
        self,
        key: str,
        reason: str,
        note: str = "",
        *,
        contact: str = "",
        channels: Sequence[str] = (),
        delay: float = 0.0,
    ) -> str:
        """Record that a person is wanted; returns the number the customer is told.

        A conversation with an open request keeps its number; a new contact or note is added to
        it. Staff are told through `channels`, after `delay` seconds.
        """
        note, contact = _bare(note)[:_MAX_TEXT], " ".join(_bare(contact).split())[:_MAX_CONTACT]
        with self._handing_off, self._session() as session:
            known = session.scalar(sql.select(HandoffRow).where(HandoffRow.conversation == key))
            new = known is None
            if known is None:
                known = HandoffRow(conversation=key, at=_now(), reason=reason, note="", contact="")
                session.add(known)
            changed = (note or known.note, contact or known.contact)
            if not new and changed != (known.note, known.contact):
                known.revision, new = known.revision + 1, True
            known.note, known.contact = changed
            session.flush()
            self._later(session, "handoffs", known.id)
            if new:
                at = _now().timestamp() + delay
                enqueue(session.connection(), known.id, known.revision, channels, at)
            number = number_of(known.id)
        self._wake()
        return number

    def request(self, number: str) -> Request | None:
        """The hand-off request with a number."""
        digits = number.removeprefix("H-")
        if not digits.isdecimal() or len(digits) > 9:
            return None
        with self._session() as session:
            row = session.get(HandoffRow, int(digits))
            return None if row is None else _request(row)

    def open_request(self, key: str) -> str | None:
        """The number of a conversation's hand-off request, if it has one."""
        with self._session() as session:
            known = session.scalar(sql.select(HandoffRow.id).where(HandoffRow.conversation == key))
            return None if known is None else number_of(known)

    def inbox(self) -> list[InboxItem]:
        """Hand-offs, thumbs down and unanswered questions, newest first."""
        with self._session() as session:
            return inbox_of(session)

    def asked(self) -> dict[str, int]:
        """How often the model was to answer from each entry, by id."""
        entry, answered = MessageRow.entry_id, MessageRow.route == RouteKind.ANSWER.value
        counts = sql.select(entry, sql.func.count()).where(answered).group_by(entry)
        with self._session() as session:
            return {str(row[0]): int(row[1]) for row in session.execute(counts)}

    def _wake(self) -> None:
        if self._redactor is not None:
            self._redactor.wake()

    def close(self) -> None:
        """Take names out of what still waits, and give the connections back."""
        if self._redactor is not None:
            self._redactor.close()
        self._engine.dispose()


def _request(row: HandoffRow) -> Request:
    return Request(
        number_of(row.id),
        row.conversation,
        iso(row.at),
        row.reason,
        row.note,
        row.contact,
        row.revision,
    )


def _kept(text: str, public: Sequence[str] = ()) -> str:
    """What is stored of a text; what a public text holds is no personal data."""
    return masked(text[: _MAX_TEXT + _MARGIN], public)[:_MAX_TEXT].replace("\x00", "")


def _bare(text: str) -> str:
    """Without characters that are neither printed nor a line's end."""
    return "".join(c for c in text if c.isprintable() or c == "\n").strip()


def _now() -> datetime:
    return datetime.now(UTC)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0]

"""The outbox: what staff are still to be told of, so that nothing is lost or told twice.

A row is one request, in one revision, through one channel. It is written with the request itself
and claimed before it is sent. Knows nothing of how it is sent.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sql

from .errors import FeatherdeskError
from .migrate import migrate

__all__ = ["Outbox", "Parcel", "State", "deliveries", "enqueue", "number_of"]


class State(StrEnum):
    """What has become of a row; a later revision replaces one that was not sent yet."""

    WAITING = "waiting"
    SENT = "sent"
    REPLACED = "replaced"
    GIVEN_UP = "given_up"


_META = sql.MetaData()
_ROWS = sql.Table(
    "outbox",
    _META,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("handoff", sql.Integer, nullable=False, index=True),
    sql.Column("revision", sql.Integer, nullable=False),
    sql.Column("channel", sql.String(16), nullable=False),
    sql.Column("state", sql.String(16), nullable=False, index=True),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("next_at", sql.Float(53), nullable=False),
    sql.Column("error", sql.Text, nullable=False),
    sql.UniqueConstraint("handoff", "revision", "channel"),
)


def number_of(handoff: int) -> str:
    """The number of a request that people are told."""
    return f"H-{handoff:05d}"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One thing to send; `attempts` counts those begun before, `next_at` is in Unix seconds."""

    id: int
    handoff: int
    revision: int
    channel: str
    attempts: int
    next_at: float

    @property
    def number(self) -> str:
        """The number of the request."""
        return number_of(self.handoff)


def enqueue(
    connection: sql.Connection, handoff: int, revision: int, channels: Sequence[str], at: float
) -> None:
    """Put a request in, to be sent from `at` (Unix seconds), in the caller's transaction."""
    for channel in channels:
        connection.execute(
            sql.update(_ROWS)
            .where(
                _ROWS.c.handoff == handoff,
                _ROWS.c.channel == channel,
                _ROWS.c.state.in_([State.WAITING, State.GIVEN_UP]),
            )
            .values(state=State.REPLACED)
        )
        connection.execute(
            sql.insert(_ROWS).values(
                handoff=handoff,
                revision=revision,
                channel=channel,
                state=State.WAITING,
                attempts=0,
                next_at=at,
                error="",
            )
        )


def deliveries(connection: sql.Connection) -> dict[int, str]:
    """What has become of each request, in words: `webhook sent, email given up: refused`."""
    told: dict[int, dict[str, str]] = {}
    for row in connection.execute(sql.select(_ROWS).order_by(_ROWS.c.id)):
        if row.state != State.REPLACED:
            said = f"{row.channel} {row.state.replace('_', ' ')}"
            why = f": {row.error}" if row.error and row.state != State.SENT else ""
            told.setdefault(row.handoff, {})[row.channel] = said + why
    return {handoff: ", ".join(by.values()) for handoff, by in told.items()}


class Outbox:
    """The rows of a store that are to be sent; several processes may work on one."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine

    def create(self) -> None:
        """Make the table where it is missing."""
        migrate(self._engine, _META)

    @contextmanager
    def _begin(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sql.exc.SQLAlchemyError as error:
            raise FeatherdeskError(
                f"the outbox of hand-offs cannot be read or written: {str(error).splitlines()[0]}"
            ) from None

    def due(self, channels: Sequence[str], now: float) -> list[Parcel]:
        """What is to be sent through these channels by now, oldest first."""
        wanted = sql.select(_ROWS).where(
            _ROWS.c.state == State.WAITING,
            _ROWS.c.next_at <= now,
            _ROWS.c.channel.in_(channels),
        )
        with self._begin() as connection:
            return [
                Parcel(row.id, row.handoff, row.revision, row.channel, row.attempts, row.next_at)
                for row in connection.execute(wanted.order_by(_ROWS.c.id))
            ]

    def claim(self, parcel: Parcel, until: float) -> bool:
        """Take a parcel for oneself until then; False where another was faster.

        A process that dies with it leaves it to be sent again after that time.
        """
        with self._begin() as connection:
            taken = connection.execute(
                sql.update(_ROWS)
                .where(
                    _ROWS.c.id == parcel.id,
                    _ROWS.c.state == State.WAITING,
                    _ROWS.c.attempts == parcel.attempts,
                )
                .values(attempts=parcel.attempts + 1, next_at=until)
            )
            return taken.rowcount == 1

    def sent(self, parcel: Parcel) -> None:
        """It has arrived."""
        self._set(parcel, state=State.SENT, error="")

    def failed(self, parcel: Parcel, error: str, again_at: float | None) -> None:
        """It has not arrived; None gives it up."""
        if again_at is None:
            self._set(parcel, state=State.GIVEN_UP, error=error)
        else:
            self._set(parcel, next_at=again_at, error=error)

    def resend(self) -> int:
        """Try again what was given up; returns how many."""
        with self._begin() as connection:
            done = connection.execute(
                sql.update(_ROWS)
                .where(_ROWS.c.state == State.GIVEN_UP)
                .values(state=State.WAITING, attempts=0, next_at=0.0)
            )
            return done.rowcount

    def _set(self, parcel: Parcel, **values: object) -> None:
        with self._begin() as connection:
            connection.execute(
                sql.update(_ROWS)
                .where(_ROWS.c.id == parcel.id, _ROWS.c.state == State.WAITING)
                .values(**values)
            )

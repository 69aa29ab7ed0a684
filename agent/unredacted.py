"""The list of stored texts that wait for names to be taken out: one table beside the others.

A line is put in with the text it stands for, in one transaction. Knows the tables it points to by
name only.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sql
from sqlalchemy.orm import Session

from .errors import FeatherdeskError
from .redaction import Waiting

__all__ = ["Unredacted"]

_LINES = sql.Table(
    "unredacted",
    sql.MetaData(),
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("place", sql.String(16), nullable=False),
    sql.Column("row", sql.Integer, nullable=False),
)
_TEXTS = {"messages": "text", "feedback": "reason", "handoffs": "note"}
_PLACES = {
    name: sql.table(name, sql.column("id", sql.Integer), sql.column(text, sql.Text))
    for name, text in _TEXTS.items()
}


class Unredacted:
    """Lines that point to texts of customers; safe to use from several threads."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        _LINES.metadata.create_all(engine)

    @contextmanager
    def _connection(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sql.exc.SQLAlchemyError as error:
            raise FeatherdeskError(
                f"the list of texts to redact cannot be read or written: {type(error).__name__}"
            ) from None

    def put(self, session: Session, place: str, row: int) -> None:
        """Let the text of a row wait, as part of a session's transaction."""
        session.execute(sql.insert(_LINES).values(place=place, row=row))

    def waiting(self, limit: int) -> list[Waiting]:
        """The oldest that wait."""
        with self._connection() as connection:
            lines = connection.execute(sql.select(_LINES).order_by(_LINES.c.id).limit(limit)).all()
            return [
                Waiting(line.id, _text(connection, line.place, line.row) or "") for line in lines
            ]

    def settle(self, item: Waiting, text: str) -> None:
        """Put a text without names in its place, unless it was written anew meanwhile."""
        with self._connection() as connection:
            line = connection.execute(sql.select(_LINES).where(_LINES.c.id == item.id)).first()
            if line is None:
                return
            place = _PLACES[line.place]
            column = place.c[_TEXTS[line.place]]
            connection.execute(
                sql.update(place)
                .where(place.c.id == line.row, column == item.text)
                .values({column.name: text})
            )
            connection.execute(sql.delete(_LINES).where(_LINES.c.id == item.id))


def _text(connection: sql.Connection, name: str, row: int) -> str | None:
    """The text that a line points to; None where its row is gone."""
    place = _PLACES[name]
    found: str | None = connection.scalar(
        sql.select(place.c[_TEXTS[name]]).where(place.c.id == row)
    )
    return found

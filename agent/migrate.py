"""Brings a database of an earlier version up to date. Adds columns; drops and renames nothing."""

import sqlalchemy as sql

__all__ = ["migrate"]


def migrate(engine: sql.Engine, metadata: sql.MetaData) -> None:
    """Make the tables and columns that are missing; what is stored stays.

    Several processes may start on one database: what another has just made is fine.
    """
    for table in metadata.sorted_tables:
        try:
            table.create(engine, checkfirst=True)
        except sql.exc.SQLAlchemyError:
            if not sql.inspect(engine).has_table(table.name):
                raise
        for column in table.columns:
            if column.name in _columns(engine, table.name):
                continue
            try:
                with engine.begin() as connection:
                    connection.execute(_added(engine, table.name, column))
            except sql.exc.SQLAlchemyError:
                if column.name not in _columns(engine, table.name):
                    raise


def _columns(engine: sql.Engine, table: str) -> set[str]:
    return {column["name"] for column in sql.inspect(engine).get_columns(table)}


def _added(engine: sql.Engine, table: str, column: sql.Column[object]) -> sql.TextClause:
    """The statement; names and types are our own, never a user's."""
    kind = sql.schema.CreateColumn(column).compile(dialect=engine.dialect)
    return sql.text(f"ALTER TABLE {table} ADD COLUMN {kind}")

"""The skill that looks an order up in a table of the shop's database, to read only.

An order is told of only to who knows its number and its postcode or e-mail. What a customer
writes goes into the query as bound values, never as text. Knows nothing of the conversation.
"""

import hmac
import sqlite3
import threading
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from .arguments import EMAIL
from .errors import ConfigError
from .skills import Risk, SkillResult, take

__all__ = ["OrderStatus"]

_NUMBER = r"[A-Z]{0,4}-?\d{5,12}"
_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{5,6}"
_COLUMNS = ("number", "postcode", "email", "status", "updated", "tracking")
_ROWS = 20
_UNKNOWN = SkillResult(
    "I find no order with this number and this postcode or e-mail. Please check both.",
    texts={"zh": "没有找到与该订单号和邮编（或邮箱）相符的订单，请核对。"},
    again=True,
)


class OrderStatus:
    """Looks an order's status up.

    Settings: `url` of the database, `table`, `columns` by what they hold (number, status and at
    least one of postcode and email; updated and tracking where there are), `statuses` with words
    for the customer by the status in the table, and the patterns `number` and `postcode`.
    """

    name = "order_status"
    description = "Looks up the status of an order by its number and its postcode or e-mail."
    risk = Risk.READ
    confirm = False
    timeout = 8.0
    examples = (
        "Where is my order?",
        "What is the status of my order?",
        "Has my order 10234 been sent yet?",
        "Can you look up my order?",
        "Check order number 20817 for me",
        "When will my order 31877 arrive?",
        "我的订单到哪里了？",
        "查一下订单状态",
        "帮我查订单10234",
        "我的订单发货了吗？",
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        told = take(settings, "url", "table", "columns", "statuses", "number", "postcode")
        self._url, folder = _url(told.get("url")), Path(told.get("folder", "."))
        self._table_name = str(told.get("table", "orders"))
        self._columns = _columns(told.get("columns", {}))
        self._statuses = _statuses(told.get("statuses", {}))
        self._engine = _engine(self._url, folder)
        self._table: sql.Table | None = None
        self._lock = threading.Lock()
        self.parameters = _parameters(
            str(told.get("number", _NUMBER)), str(told.get("postcode", _POSTCODE)), self._columns
        )

    def run(self, arguments: Mapping[str, Any]) -> SkillResult:
        """The status of the order, if number and proof belong together."""
        for row in self._rows(str(arguments["number"])):
            if self._proven(row, str(arguments["proof"])):
                return self._told(str(arguments["number"]), row)
        return _UNKNOWN

    def _rows(self, number: str) -> list[Mapping[str, Any]]:
        """What the table holds under a number; nothing where the number cannot be one."""
        table = self._reflected()
        column = table.c[self._columns["number"]]
        value: str | int = number
        if issubclass(column.type.python_type, int | Decimal):
            if not number.isdecimal():
                return []
            value = int(number)
        wanted = [table.c[name].label(role) for role, name in self._columns.items()]
        query = sql.select(*wanted).where(column == value).limit(_ROWS)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _reflected(self) -> sql.Table:
        """The table as the database describes it, read once."""
        with self._lock:
            if self._table is None:
                schema, _, name = self._table_name.rpartition(".")
                self._table = sql.Table(
                    name, sql.MetaData(), schema=schema or None, autoload_with=self._engine
                )
            return self._table

    def _proven(self, row: Mapping[str, Any], proof: str) -> bool:
        """Whether the proof is the order's postcode or e-mail; an empty column proves nothing."""
        known = [_bare(str(row[role])) for role in ("postcode", "email") if row.get(role)]
        given = _bare(proof).encode()
        return any(value and hmac.compare_digest(value.encode(), given) for value in known)

    def _told(self, number: str, row: Mapping[str, Any]) -> SkillResult:
        status = str(row["status"])
        words = self._statuses.get(status.lower(), {"en": f"Its status is: {status}."})
        zh = words.get("zh") or (
            f"状态：{status}。" if status.lower() not in self._statuses else ""
        )
        english, chinese = (
            [f"Order {number}: {words['en']}"],
            [f"订单{number}：{zh or words['en']}"],
        )
        if row.get("updated"):
            english.append(f"Last update: {_day(row['updated'])}.")
            chinese.append(f"更新日期：{_day(row['updated'])}。")
        if row.get("tracking"):
            english.append(f"Tracking: {row['tracking']}")
            chinese.append(f"物流信息：{row['tracking']}")
        data = {"number": number, "status": status}
        return SkillResult(" ".join(english), data, {"zh": "".join(chinese)})


def _url(told: object) -> URL:
    if not isinstance(told, str) or not told:
        raise ConfigError(
            'url must name the database, e.g. "sqlite:///orders.db"; keep one with a password in '
            "FEATHERDESK_SKILLS_ORDER_STATUS_URL"
        )
    try:
        return make_url(told)
    except sql.exc.ArgumentError:
        raise ConfigError("url is no database URL; write e.g. sqlite:///orders.db") from None


def _engine(url: URL, folder: Path) -> sql.Engine:
    """An engine that keeps no connection; SQLite is opened to read only, beside bot.toml."""
    try:
        if url.get_backend_name() != "sqlite":
            options = {"postgresql_readonly": True} if "postgres" in url.drivername else {}
            return sql.create_engine(url, poolclass=NullPool, execution_options=options)
    except (sql.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        raise ConfigError(f"url: {str(error).splitlines()[0]}") from None
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigError("url: an SQLite database must be a file, e.g. sqlite:///orders.db")
    file = (folder / url.database).absolute().as_uri() + "?mode=ro"
    return sql.create_engine(
        "sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(file, uri=True)
    )


def _columns(told: object) -> dict[str, str]:
    """Column names by what they hold, in a fixed order."""
    if not isinstance(told, Mapping) or not all(isinstance(name, str) for name in told.values()):
        raise ConfigError('columns must be a table such as { number = "order_no" }')
    take(told, *_COLUMNS)
    usual = {"number": "number", "status": "status"}
    proof = {} if {"postcode", "email"} & set(told) else {"postcode": "postcode", "email": "email"}
    chosen = {**usual, **proof, **told}
    return {role: chosen[role] for role in _COLUMNS if chosen.get(role)}


def _statuses(told: object) -> dict[str, dict[str, str]]:
    """Words for the customer by status: a text, or one a language."""
    if not isinstance(told, Mapping):
        raise ConfigError('statuses must be a table such as { shipped = "It is on its way." }')
    found = {}
    for status, words in told.items():
        texts = {"en": words} if isinstance(words, str) else words
        if not isinstance(texts, Mapping) or not texts.get("en"):
            raise ConfigError(f'statuses.{status} must be a text or {{ en = "...", zh = "..." }}')
        found[str(status).lower()] = {str(k): str(v) for k, v in texts.items()}
    return found


def _parameters(number: str, postcode: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """The schema; the proof is private, for an e-mail is masked once its turn is stored."""
    proofs = {
        "postcode": (postcode, "the postcode", "邮编"),
        "email": (EMAIL, "the e-mail", "邮箱"),
    }
    used = [proofs[role] for role in ("email", "postcode") if role in columns]
    english, chinese = " or ".join(u[1] for u in used[::-1]), "或".join(u[2] for u in used[::-1])
    return {
        "type": "object",
        "properties": {
            "number": {
                "type": "string",
                "pattern": f"^(?:{number})$",
                "maxLength": 40,
                "x-ask": {"en": "What is your order number?", "zh": "请问您的订单号是多少？"},
            },
            "proof": {
                "type": "string",
                "pattern": "^(?:" + "|".join(f"(?:{u[0]})" for u in used) + ")$",
                "x-private": True,
                "x-ask": {
                    "en": f"To make sure that it is yours: what is {english} of the order?",
                    "zh": f"为了核实订单，请提供下单时的{chinese}。",
                },
            },
        },
        "required": ["number", "proof"],
    }


def _bare(text: str) -> str:
    """Without spaces and case: `yo1 7hh` is `YO17HH`."""
    return "".join(text.split()).casefold()


def _day(value: object) -> str:
    """A date, or the day of a moment; text as it stands."""
    return value.isoformat()[:10] if isinstance(value, date) else str(value)[:10]

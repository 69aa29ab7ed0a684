"""Order status against a real SQLite database: read only, and only for who knows the order."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.conversations import Store
from featherdesk.agent.dialogue import Dialogue
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import ConfigError
from featherdesk.agent.index import Index
from featherdesk.agent.order_status import OrderStatus
from featherdesk.agent.router import Router
from featherdesk.agent.runner import Runner
from featherdesk.agent.skills import SkillResult
from featherdesk.agent.skillset import skill_entries
from featherdesk.agent.slots import arguments_in
from featherdesk.agent.stages import BotConfig
from featherdesk.agent.types import Entry, HandoffReason, Turn

ROWS = [
    (10234, "YO1 7HH", "jo@b.example", "shipped", "2025-11-20", "https://t.example/1"),
    (10235, "80331", None, "packed", None, None),
    (10236, None, "kim@b.example", "PAID", None, ""),
    (10237, None, "", "shipped", None, None),
]
STATUSES = {
    "shipped": {"en": "It has left our warehouse.", "zh": "已经发货。"},
    "packed": "It is packed.",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with orders.db."""
    with closing(sqlite3.connect(tmp_path / "orders.db")) as base, base:
        base.execute(
            "create table sales (no integer, zip text, mail text, state text, at text, link text)"
        )
        base.executemany("insert into sales values (?, ?, ?, ?, ?, ?)", ROWS)
    return tmp_path


def _settings(shop: Path, **changes: Any) -> dict[str, Any]:
    columns = {
        "number": "no",
        "postcode": "zip",
        "email": "mail",
        "status": "state",
        "updated": "at",
        "tracking": "link",
    }
    told = {
        "url": "sqlite:///orders.db",
        "table": "sales",
        "columns": columns,
        "statuses": STATUSES,
        "folder": shop,
    }
    return {**told, **changes}


@pytest.fixture
def orders(shop: Path) -> OrderStatus:
    return OrderStatus(_settings(shop))


def _asked(orders: OrderStatus, number: str, proof: str) -> SkillResult:
    return orders.run({"number": number, "proof": proof})


@pytest.mark.parametrize("proof", ["YO1 7HH", "yo17hh", "jo@b.example", "JO@B.example"])
def test_an_order_is_told_to_who_knows_its_postcode_or_mail(
    orders: OrderStatus, proof: str
) -> None:
    result = _asked(orders, "10234", proof)
    assert result.text == (
        "Order 10234: It has left our warehouse. Last update: 2025-11-20. "
        "Tracking: https://t.example/1"
    )
    assert result.texts["zh"].startswith("订单10234：已经发货。")
    assert result.data == {"number": "10234", "status": "shipped"}
    assert not result.again


@pytest.mark.parametrize(
    ("number", "proof"),
    [
        ("10234", "YO1 7HX"),
        ("10234", "80331"),
        ("10235", "jo@b.example"),
        ("99999", "YO1 7HH"),
        ("10237", ""),
        ("10236", "None"),
        ("AB-10234", "YO1 7HH"),
    ],
)
def test_a_strangers_or_unknown_order_is_never_told_and_both_sound_alike(
    orders: OrderStatus, number: str, proof: str
) -> None:
    result = _asked(orders, number, proof)
    assert result.again
    assert result.text.startswith("I find no order with this number")
    assert dict(result.data) == {}


def test_a_status_without_words_is_told_as_it_stands(orders: OrderStatus) -> None:
    assert _asked(orders, "10235", "80331").text == "Order 10235: It is packed."
    told = _asked(orders, "10236", "kim@b.example")
    assert told.text == "Order 10236: Its status is: PAID."
    assert told.texts["zh"] == "订单10236：状态：PAID。"


@pytest.mark.parametrize(
    ("number", "proof"),
    [
        ("10234' OR '1'='1", "YO1 7HH"),
        ("10234; DROP TABLE sales", "YO1 7HH"),
        ("10234", "' OR 1=1 --"),
        ("10234", "%"),
        ("0 UNION SELECT * FROM sales", "x"),
    ],
)
def test_sql_in_an_argument_is_only_text(orders: OrderStatus, number: str, proof: str) -> None:
    assert _asked(orders, number, proof).again
    assert _asked(orders, "10234", "YO1 7HH").data["status"] == "shipped"


def test_the_database_is_opened_to_read_only_and_never_made(
    orders: OrderStatus, shop: Path
) -> None:
    with orders._engine.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("delete from sales")
    missing = OrderStatus(_settings(shop, url="sqlite:///none.db"))
    with pytest.raises(Exception, match="unable to open"):
        _asked(missing, "10234", "YO1 7HH")
    assert not (shop / "none.db").exists()


def test_numbers_kept_as_text_are_found_too(shop: Path) -> None:
    with closing(sqlite3.connect(shop / "orders.db")) as base, base:
        base.execute("create table orders (number text, postcode text, email text, status text)")
        base.execute("insert into orders values ('LF-10234', 'YO1 7HH', null, 'sent')")
    plain = OrderStatus({"url": "sqlite:///orders.db", "folder": shop})
    assert _asked(plain, "LF-10234", "YO1 7HH").data["status"] == "sent"


def test_a_table_with_only_a_postcode_asks_only_for_that(shop: Path) -> None:
    columns = {"number": "no", "postcode": "zip", "status": "state"}
    runner = Runner.of(OrderStatus(_settings(shop, columns=columns)))
    asks = [parameter.schema["x-ask"]["en"] for parameter in runner.parameters]
    assert asks[1] == "To make sure that it is yours: what is the postcode of the order?"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("where is order 10234, postcode yo1 7hh", {"number": "10234", "proof": "YO1 7HH"}),
        ("#10234 jo@b.example", {"number": "10234", "proof": "jo@b.example"}),
        ("订单10234邮编100080", {"number": "10234", "proof": "100080"}),
        ("lf-10234", {"number": "LF-10234"}),
        ("where is my order from 2024?", {}),
    ],
)
def test_number_and_proof_are_found_in_a_message(
    orders: OrderStatus, text: str, wanted: dict[str, str]
) -> None:
    runner = Runner.of(orders)
    found = arguments_in(text, runner.parameters, (), datetime.now(UTC))
    assert found == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": ""}, "FEATHERDESK_SKILLS_ORDER_STATUS_URL"),
        ({"url": "orders.db"}, "url is no database URL"),
        ({"url": "sqlite://"}, "must be a file"),
        ({"url": "nosuch://x/y"}, "url: "),
        ({"columns": {"nummer": "no"}}, "did you mean 'number'"),
        ({"columns": "no"}, "columns must be a table"),
        ({"statuses": {"shipped": {"zh": "x"}}}, "statuses.shipped must be a text"),
        ({"tabel": "x"}, "did you mean 'table'"),
    ],
)
def test_a_wrong_setting_says_what_to_write(shop: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OrderStatus(_settings(shop, **change))
    assert said in str(caught.value)


def test_a_table_that_lacks_a_column_fails_alone(shop: Path, caplog: Any) -> None:
    columns = {"number": "no", "postcode": "zip", "status": "stat"}
    runner = Runner.of(OrderStatus(_settings(shop, columns=columns)))
    with pytest.raises(Exception, match="KeyError at order_status"):
        runner.run({"number": "10234", "proof": "YO1 7HH"})
    assert "YO1" not in caplog.text


@pytest.fixture
def agent(orders: OrderStatus, entries: list[Entry], encoder_folder: Path, tmp_path: Path) -> Agent:
    """A small shop's bot that looks orders up."""
    runners = {"order_status": Runner.of(orders)}
    index = Index.build([*entries, *skill_entries(runners, entries)], MiniLM(encoder_folder, 2))
    manifest = Manifest("b", "b", "h", "none", "p", ("en",), index.encoder.id, 5, ("en",))
    router = Router(index, calibrate(index))
    return Agent(router, None, BotConfig(), manifest, tmp_path, dialogue=Dialogue(runners))


def test_a_customer_is_asked_for_both_and_told_their_order(agent: Agent, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'c.db'}")

    def say(text: str) -> str:
        reply = agent.reply(text, store.turns("k"))
        store.add("k", text, reply)
        return reply.text

    assert say("Where is my order?") == "What is your order number?"
    assert say("it is 10234").endswith("what is the postcode or the e-mail of the order?")
    assert "has left our warehouse" in say("jo@b.example")
    kept = " ".join(turn.content for turn in store.turns("k"))
    store.close()
    assert "jo@b.example" not in kept


def test_a_guesser_is_offered_a_person_after_two_tries(agent: Agent) -> None:
    first = agent.reply("where is order 10234, postcode LS1 1AA?")
    assert first.text.endswith("\nWhat is your order number?")
    history = [Turn("user", "where is order 10234?"), Turn("assistant", first.text)]
    second = agent.reply("10234, LS1 2BB", history)
    assert second.handoff is not None
    assert second.handoff.reason is HandoffReason.SKILL_FAILED
    assert "warehouse" not in first.text + second.text

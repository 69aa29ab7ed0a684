"""The bot as an MCP server, used by the SDK's own client: in process, over stdio and over HTTP."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from featherdesk.agent.conversations import Store
from featherdesk.serve.mcp_server import create_server
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

ASKED = "when will my package arrive?"
GOOD = "Standard delivery takes 3 to 5 working days and costs £4.95."
REAL = "How much does standard delivery in the UK cost?"


def _used(bot: Any, use: Callable[[Client], Coroutine[Any, Any, Any]], mode: str = "auto") -> Any:
    """What a client of the bot's server gets."""

    async def run() -> Any:
        async with Client(create_server(bot), mode=mode) as client:
            return await use(client)

    return asyncio.run(run())


def _called(bot: Any, tool: str, **arguments: Any) -> CallToolResult:
    return _used(bot, lambda client: client.call_tool(tool, arguments))  # type: ignore[no-any-return]


def _text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content)  # type: ignore[union-attr]


def test_three_tools_say_what_they_do_and_what_they_take(bot_of: Callable[..., Any]) -> None:
    tools = _used(bot_of(GOOD), lambda client: client.list_tools()).tools
    assert [tool.name for tool in tools] == ["ask", "search", "hand_off"]
    assert all(tool.description and tool.title and tool.output_schema for tool in tools)
    ask = tools[0]
    assert ask.input_schema["required"] == ["question"]
    assert {"text", "route", "author", "confidence", "sources", "handoff"} <= set(
        ask.output_schema["properties"]
    )
    assert ask.annotations.read_only_hint
    assert not tools[2].annotations.read_only_hint


def test_an_answer_comes_as_text_and_as_data_and_is_stored(bot_of: Callable[..., Any]) -> None:
    bot = bot_of(GOOD)
    told = _called(bot, "ask", question=ASKED)
    assert not told.is_error
    assert told.content[0].text == GOOD  # type: ignore[union-attr]
    assert "Source: How long does delivery take?" in _text(told)
    data = told.structured_content
    assert (data["text"], data["route"], data["author"]) == (GOOD, "answer", "model")
    assert data["grounded"]
    assert data["handoff"] is None
    assert data["confidence"] > 0.5
    assert [source["entry_id"] for source in data["sources"]] == ["delivery"]
    assert [m.text for m in bot.store.history(data["conversation"])] == [ASKED, GOOD]


def test_a_question_without_an_answer_offers_a_person(bot_of: Callable[..., Any]) -> None:
    data = _called(bot_of(GOOD), "ask", question="what is the capital of Peru?").structured_content
    assert data["route"] == "handoff"
    assert data["handoff"] == "out_of_scope"
    assert data["sources"] == []


def test_what_is_to_be_chosen_stands_in_the_text(bot_of: Callable[..., Any]) -> None:
    from featherdesk.agent.prompt import REFUSAL

    told = _called(bot_of(REFUSAL), "ask", question=ASKED)
    assert told.structured_content["route"] == "clarify"
    assert "1. How long does delivery take?" in _text(told)


def test_a_conversation_goes_on_by_history_or_by_its_key(bot_of: Callable[..., Any]) -> None:
    bot = bot_of(GOOD)
    first = _called(bot, "ask", question=ASKED).structured_content["conversation"]
    seen = bot.agent.generator.seen
    _called(bot, "ask", question="and how much does that cost?", conversation=first)
    assert any(f"Customer: {ASKED}" in text and "how much" in text for text in seen)
    assert len(bot.store.history(first)) == 4
    seen.clear()
    before = [{"role": "user", "content": "Do you ship?"}, {"role": "assistant", "content": "Yes."}]
    _called(bot, "ask", question=ASKED, history=before)
    assert any("Agent: Yes." in text for text in seen)


def test_search_gives_entries_with_scores_and_writes_nothing(bot_of: Callable[..., Any]) -> None:
    bot = bot_of(GOOD)
    entries = _called(bot, "search", question=ASKED, limit=2).structured_content["entries"]
    assert entries[0]["entry_id"] == "delivery"
    assert len(entries) == 2
    assert entries[0]["score"] >= entries[1]["score"]
    assert entries[0]["answer"] == GOOD
    assert not bot.agent.generator.seen


def test_a_person_is_asked_for_once_and_stands_in_the_inbox(bot_of: Callable[..., Any]) -> None:
    bot = bot_of(GOOD)
    key = _called(bot, "ask", question="what is the capital of Peru?").structured_content[
        "conversation"
    ]
    first = _called(bot, "hand_off", conversation=key).structured_content
    again = _called(bot, "hand_off", conversation=key, language="zh").structured_content
    assert first["number"] == again["number"]
    assert first["number"] in first["text"]
    assert "已经" in again["text"]
    item = next(item for item in bot.store.inbox() if item.kind == "handoff")
    assert (item.question, item.number) == ("what is the capital of Peru?", first["number"])


def test_a_request_of_its_own_needs_a_note_and_keeps_its_number(
    bot_of: Callable[..., Any],
) -> None:
    bot = bot_of(GOOD)
    bare = _called(bot, "hand_off")
    assert bare.is_error
    assert "note" in _text(bare)
    told = _called(bot, "hand_off", reason="angry", note="wants a refund").structured_content
    again = _called(bot, "hand_off", conversation=told["conversation"]).structured_content
    assert again["number"] == told["number"]
    assert [item.note for item in bot.store.inbox()] == ["wants a refund"]


def test_entries_are_resources(bot_of: Callable[..., Any]) -> None:
    async def read(client: Client) -> tuple[Any, Any]:
        index = json.loads((await client.read_resource("faq://entries")).contents[0].text)  # type: ignore[union-attr]
        one = await client.read_resource(index[0]["uri"])
        return index, json.loads(one.contents[0].text)  # type: ignore[union-attr]

    index, one = _used(bot_of(GOOD), read)
    assert [entry["id"] for entry in index][:2] == ["delivery", "worn"]
    assert (one["question"], one["answer"]) == (index[0]["question"], GOOD)


def test_an_id_with_odd_letters_is_found_and_an_expired_entry_is_not(
    bot_of: Callable[..., Any],
) -> None:
    bot = bot_of(GOOD)
    index = bot.agent.router.index
    odd = replace(index.entries[0], id="../a b/ü?#")
    gone = replace(index.entries[1], valid_until=date(2020, 1, 1))
    changed = replace(index, entries=(odd, gone, *index.entries[2:]))
    bot.agent.router = replace(bot.agent.router, index=changed)

    async def read(client: Client) -> Any:
        listed = json.loads((await client.read_resource("faq://entries")).contents[0].text)  # type: ignore[union-attr]
        assert gone.id not in [entry["id"] for entry in listed]
        found = await client.read_resource(listed[0]["uri"])
        assert json.loads(found.contents[0].text)["id"] == odd.id  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="no entry 'worn'"):
            await client.read_resource("faq://entries/worn")

    _used(bot, read)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("ask", {}, "question: Field required"),
        ("ask", {"question": "  "}, "the question is empty"),
        ("ask", {"question": "x" * 2001}, "over 2000 characters"),
        ("ask", {"question": "x", "history": [{"role": "robot", "content": ""}]}, "history.0.role"),
        ("ask", {"question": "x", "history": "robot"}, "history"),
        ("ask", {"question": "x", "conversation": "1"}, "no such `conversation`"),
        ("ask", {"question": "x", "conversation": "mcp-" + "a" * 32}, "no such `conversation`"),
        ("search", {"question": "x", "limit": 0}, "limit"),
        ("hand_off", {"reason": "bored", "note": "x"}, "reason"),
        ("buy", {}, "buy"),
    ],
)
def test_what_a_caller_did_wrong_is_said_in_one_line(
    bot_of: Callable[..., Any], tool: str, arguments: dict[str, Any], said: str
) -> None:
    told = _called(bot_of(GOOD), tool, **arguments)
    assert told.is_error
    assert said in _text(told)
    assert "Traceback" not in _text(told)
    assert "\n" not in _text(told)


def test_a_store_that_fails_is_an_error_the_caller_can_read(bot_of: Callable[..., Any]) -> None:
    bot = bot_of(GOOD)
    with bot.store._session() as session:
        session.connection().exec_driver_sql("DROP TABLE messages")
    told = _called(bot, "ask", question=ASKED)
    assert told.is_error
    assert "could not be stored" in _text(told)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_cancelled_request_stops_the_model_and_stores_nothing(
    bot_of: Callable[..., Any], endless: Any, mode: str
) -> None:
    bot = bot_of(endless)

    async def use(client: Client) -> None:
        task = asyncio.create_task(client.call_tool("ask", {"question": ASKED}))
        assert await asyncio.to_thread(endless.began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(endless.ended.wait, 30)

    _used(bot, use, mode)
    assert bot.store.inbox() == []
    with bot.store._session() as session:
        rows = session.connection().exec_driver_sql("SELECT count(*) FROM messages").scalar()
    assert rows == 0


def _command(bot: Path, *options: str) -> list[str]:
    return ["-m", "featherdesk.agent.cli", "mcp", str(bot), *options]


@pytest.mark.end_to_end
def test_over_stdio_the_real_bot_answers(shop: Path) -> None:
    environment = {**os.environ}

    async def run() -> tuple[Any, ...]:
        child = StdioServerParameters(command=sys.executable, args=_command(shop), env=environment)
        async with Client(child) as client:
            tools = await client.list_tools()
            told = await client.call_tool("ask", {"question": REAL})
            empty = await client.call_tool("ask", {"question": ""})
            found = await client.call_tool("search", {"question": REAL, "limit": 3})
            entries = await client.read_resource("faq://entries")
            return tools, told, empty, found, entries

    tools, told, empty, found, entries = asyncio.run(run())
    assert len(tools.tools) == 3
    assert "£" in told.content[0].text
    assert told.structured_content["sources"][0]["entry_id"]
    assert empty.is_error
    assert len(found.structured_content["entries"]) == 3
    assert len(json.loads(entries.contents[0].text)) > 20
    store = Store.beside(shop)
    assert store.history(told.structured_content["conversation"])
    store.close()


@pytest.mark.end_to_end
def test_stdout_carries_the_protocol_alone(shop: Path) -> None:
    """Also where the input is no protocol at all."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        },
    }
    ask = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "ask", "arguments": {"question": REAL}},
    }
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    with subprocess.Popen(
        [sys.executable, *_command(shop)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        for line in ("this is no protocol", *map(json.dumps, (hello, ready, ask))):
            child.stdin.write(line + "\n")  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
        lines = []
        while not any(line.get("id") == 2 for line in lines):
            lines.append(json.loads(child.stdout.readline()))  # type: ignore[union-attr]
        child.stdin.close()  # type: ignore[union-attr]
        lines += [json.loads(line) for line in child.stdout]  # type: ignore[union-attr]
        assert child.wait(timeout=60) == 0
        assert "Traceback" not in child.stderr.read()  # type: ignore[union-attr]
    assert all(line["jsonrpc"] == "2.0" for line in lines)
    answer = next(line for line in lines if line.get("id") == 2)
    assert "£" in answer["result"]["content"][0]["text"]


def _over_http(
    url: str, use: Callable[[Client], Coroutine[Any, Any, Any]], mode: str = "auto"
) -> Any:
    async def run() -> Any:
        headers = {"Authorization": "Bearer s3cret"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as keyed:
            transport = streamable_http_client(url, http_client=keyed)
            async with Client(transport, mode=mode) as client:
                return await use(client)

    return asyncio.run(run())


@pytest.mark.end_to_end
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_over_http_the_real_bot_answers(keyed_mcp_url: str, mode: str) -> None:
    told = _over_http(
        keyed_mcp_url, lambda client: client.call_tool("ask", {"question": REAL}), mode
    )
    assert "£" in told.content[0].text
    assert told.structured_content["author"] in {"model", "curated", "fallback"}


@pytest.mark.end_to_end
def test_over_http_the_key_is_asked_for(keyed_mcp_url: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accepts = {"accept": "application/json, text/event-stream"}
    without = httpx.post(keyed_mcp_url, json=body, headers=accepts)
    assert without.status_code == 401
    assert without.headers["www-authenticate"] == "Bearer"
    assert "default-src" in without.headers["content-security-policy"]
    wrong = httpx.post(keyed_mcp_url, json=body, headers={**accepts, "authorization": "Bearer no"})
    assert wrong.status_code == 401

    async def run() -> None:
        async with Client(keyed_mcp_url) as client:
            await client.list_tools()

    with pytest.raises(ExceptionGroup) as told:
        asyncio.run(run())
    assert told.value.subgroup(MCPError) is not None


@pytest.mark.end_to_end
def test_a_body_that_is_too_long_is_refused(keyed_mcp_url: str) -> None:
    headers = {"authorization": "Bearer s3cret", "accept": "application/json, text/event-stream"}
    answer = httpx.post(keyed_mcp_url, json={"x": "y" * 400_000}, headers=headers)
    assert answer.status_code == 413


@pytest.mark.end_to_end
def test_a_foreign_host_name_is_refused_on_this_machine(keyed_mcp_url: str) -> None:
    """A page of somebody else that points its name at 127.0.0.1 gets nothing."""
    headers = {"authorization": "Bearer s3cret", "host": "evil.example"}
    answer = httpx.post(keyed_mcp_url, json={}, headers=headers)
    assert answer.status_code == 421


@pytest.mark.end_to_end
def test_a_public_host_without_a_key_is_warned_about(shop: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "FEATHERDESK_API_KEY"}
    with subprocess.Popen(
        [sys.executable, *_command(shop, "--http", "--host", "0.0.0.0", "--port", "0")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdout.readline()  # type: ignore[union-attr]
        child.terminate()
        _, errors = child.communicate(timeout=60)
    assert "FEATHERDESK_API_KEY" in errors


def test_what_is_no_bot_is_said_in_one_line(cli: Any, tmp_path: Path) -> None:
    done = cli("mcp", str(tmp_path))
    assert done.returncode == 1
    assert "not a bot folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_missing_sdk_names_its_extra() -> None:
    code = (
        "import sys; sys.modules['mcp'] = None; "
        "from featherdesk.agent.cli import main; main(['mcp', 'bot'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'featherdesk[mcp]'" in done.stderr

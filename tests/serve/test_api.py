"""The HTTP API against the real server and the real model."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from featherdesk.agent.answers import AnswerCache
from featherdesk.agent.prompt import REFUSAL
from featherdesk.serve.api import create_app
from openai import AsyncOpenAI, OpenAI

end_to_end = pytest.mark.end_to_end
ASKED = "How much does standard delivery in the UK cost?"
SCRIPTED = "when will my package arrive?"
GOOD = "Standard delivery takes 3 to 5 working days and costs £4.95."
WRONG = "Standard delivery takes 3 to 5 working days and costs £9.95."


@pytest.fixture
def client_of() -> Iterator[Callable[..., OpenAI]]:
    """Makes OpenAI's clients of the server at a url, and closes them."""
    with ExitStack() as opened:
        yield lambda url, key="none": opened.enter_context(
            OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        )


def _chat(server: Any, **body: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)


@end_to_end
def test_health_and_models(server: Any) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    models = httpx.get(f"{server.url}/v1/models").json()
    assert models["data"][0]["object"] == "model"
    assert "featherdesk_replies" in httpx.get(f"{server.url}/metrics").text


@end_to_end
def test_the_openai_client_gets_an_answer_with_its_receipt(
    server: Any, client_of: Callable[..., OpenAI]
) -> None:
    client = client_of(server.url)
    done = client.chat.completions.create(model="x", messages=[{"role": "user", "content": ASKED}])
    assert "£" in (done.choices[0].message.content or "")
    receipt = done.model_dump()["featherdesk"]
    assert receipt["grounded"]
    assert receipt["author"] in {"model", "fallback"}
    assert receipt["citations"]


@end_to_end
def test_the_stream_is_the_same_reply(server: Any, client_of: Callable[..., OpenAI]) -> None:
    client = client_of(server.url)
    asked = [{"role": "user", "content": "What is the price of standard UK delivery?"}]
    chunks = list(client.chat.completions.create(model="x", messages=asked, stream=True))
    whole = client.chat.completions.create(model="x", messages=asked)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text.strip().endswith((whole.choices[0].message.content or "").strip()[-20:])
    assert len(chunks) > 4
    assert chunks[-1].choices[0].finish_reason == "stop"


@end_to_end
def test_history_is_used(server: Any) -> None:
    done = _chat(
        server,
        messages=[
            {"role": "user", "content": "Can I return sale items?"},
            {"role": "assistant", "content": "Let me see."},
            {"role": "user", "content": "and who pays for the postage of it?"},
        ],
    )
    assert done.status_code == 200


@end_to_end
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "messages"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "not empty"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "2000 characters"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, 400, "user's"),
        ({"messages": [{"role": "user", "content": "x" * 400_000}]}, 413, "bytes"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    server: Any, body: dict[str, object], status: int, said: str
) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


@end_to_end
def test_what_is_not_json_is_refused(server: Any) -> None:
    answer = httpx.post(
        f"{server.url}/v1/chat/completions",
        content=b"\xff\x00{",
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400


@end_to_end
@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "'; DROP TABLE x", "😀" * 300, "‮‮‮"])
def test_hostile_questions_get_a_calm_reply(server: Any, text: str) -> None:
    assert _chat(server, messages=[{"role": "user", "content": text}]).status_code == 200


@end_to_end
def test_security_headers_are_set(server: Any) -> None:
    headers = httpx.get(f"{server.url}/healthz").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@end_to_end
def test_a_key_is_asked_for_and_a_public_host_warned_about(shop: Path, start: Any) -> None:
    keyed = start(shop, "--no-page", env={"FEATHERDESK_API_KEY": "s3cret"}).wait(page=False)
    try:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        url = f"{keyed.url}/v1/chat/completions"
        assert httpx.post(url, json=body).status_code == 401
        good = {"authorization": "Bearer s3cret"}
        assert httpx.post(url, json=body, headers=good, timeout=60).status_code == 200
    finally:
        assert "s3cret" not in keyed.stop()
    public = start(shop, "--no-page", "--host", "0.0.0.0").wait(page=False)
    assert "FEATHERDESK_API_KEY" in public.stop()


@end_to_end
def test_a_port_in_use_is_said_in_one_line(server: Any, shop: Path, cli: Any) -> None:
    done = cli("serve", str(shop), "--port", str(server.port))
    assert done.returncode == 1
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@end_to_end
def test_a_refused_artefact_is_not_served(shop: Path, tmp_path: Path, cli: Any) -> None:
    told = json.loads((shop / "manifest.json").read_text())
    told["gate"] = {"verdict": "refused", "reasons": ["end token: it is '!'"]}
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    done = cli("serve", str(tmp_path))
    assert done.returncode == 1
    assert "--accept-refused" in done.stderr


def _asked(client: OpenAI, question: str = SCRIPTED, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="b", messages=messages, **options)


def test_a_rejected_reply_is_replaced_by_the_curated_text(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    client = client_of(serving(create_app(bot_of(WRONG))))
    whole = _asked(client)
    assert whole.choices[0].message.content == GOOD
    chunks = list(_asked(client, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.startswith("Standard delivery takes 3 to 5 working days")
    assert text.endswith("\n\n" + GOOD)
    assert "9.95" not in text
    receipt = chunks[-1].model_dump()["featherdesk"]
    assert receipt["replaces"]
    assert receipt["author"] == "fallback"
    assert whole.model_dump()["featherdesk"]["author"] == "fallback"


def test_a_grounded_reply_replaces_nothing(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    chunks = list(_asked(client_of(serving(create_app(bot_of(GOOD)))), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == GOOD
    assert not chunks[-1].model_dump()["featherdesk"]["replaces"]


def test_what_is_to_be_chosen_stands_in_the_text(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    client = client_of(serving(create_app(bot_of(REFUSAL))))
    assert "\n1. How long does delivery take?" in _asked(client).choices[0].message.content
    chunks = list(_asked(client, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "\n1. How long does delivery take?" in text


def test_tokens_are_counted_whole_and_streamed(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    client = client_of(serving(create_app(bot_of(GOOD))))
    usage = _asked(client).usage
    assert usage.completion_tokens == len(GOOD)
    assert usage.prompt_tokens > len(SCRIPTED)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    chunks = list(_asked(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage == usage
    assert chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in _asked(client, stream=True))


def test_the_async_client_gets_the_same_whole_and_streamed(
    bot_of: Callable[..., Any], serving: Callable[[Any], str]
) -> None:
    url = serving(create_app(bot_of(GOOD)))
    messages: Any = [{"role": "user", "content": SCRIPTED}]

    async def run() -> tuple[str, str]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            done = await client.chat.completions.create(model="b", messages=messages)
            stream = await client.chat.completions.create(model="b", messages=messages, stream=True)
            words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return done.choices[0].message.content or "", "".join(words)

    assert asyncio.run(run()) == (GOOD, GOOD)


def test_errors_are_the_clients_own_exceptions(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    url = serving(create_app(bot_of(GOOD), key="s3cret"))
    good = client_of(url, "s3cret")
    with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
        _asked(client_of(url, "wrong"))
    with pytest.raises(openai.BadRequestError, match="not empty"):
        _asked(good, "")
    with pytest.raises(openai.BadRequestError, match="2000 characters"):
        _asked(good, "x" * 2001, stream=True)
    with pytest.raises(openai.APIStatusError, match="bytes") as told:
        _asked(good, "x" * 400_000)
    assert told.value.status_code == 413
    assert _asked(good).choices[0].message.content == GOOD


def test_a_store_that_fails_is_an_error_whole_and_streamed(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    bot = bot_of(GOOD)
    client = client_of(serving(create_app(bot)))
    with bot.store._session() as session:
        session.connection().exec_driver_sql("DROP TABLE messages")
    with pytest.raises(openai.InternalServerError, match="could not be stored"):
        _asked(client)
    with pytest.raises(openai.APIError, match="could not be stored"):
        list(_asked(client, stream=True))


def test_a_client_that_leaves_stops_the_model(
    bot_of: Callable[..., Any],
    endless: Any,
    serving: Callable[[Any], str],
    client_of: Callable[..., OpenAI],
) -> None:
    stream = _asked(client_of(serving(create_app(bot_of(endless)))), stream=True)
    assert next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    assert endless.ended.wait(30)


def test_questions_are_answered_while_it_warms_up_and_the_page_comes_after(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    went_on, made = threading.Event(), threading.Event()

    def page(bot: Any) -> FastAPI:
        made.set()
        return FastAPI()

    def warm() -> None:
        assert went_on.wait(30)

    url = serving(create_app(bot_of(GOOD), page=page, warm=warm))
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready", "bot": "b", "page": False}
    assert _asked(client_of(url)).choices[0].message.content == GOOD
    assert not made.is_set()
    went_on.set()
    assert made.wait(30)


def _figure(url: str, name: str) -> float:
    """A figure of /metrics."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def _counted(url: str, result: str) -> float:
    """A figure of the answer cache in /metrics."""
    return _figure(url, f'featherdesk_answer_cache_total{{result="{result}"}}')


def test_a_question_that_was_asked_before_is_answered_at_once_and_says_so(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    bot = bot_of(GOOD)
    bot.agent.answers = AnswerCache(10**6)
    url = serving(create_app(bot))
    first = _asked(client_of(url))
    assert not first.model_dump()["featherdesk"]["cached"]
    assert (_counted(url, "hit"), _counted(url, "miss")) == (0, 1)
    chunks = list(_asked(client_of(url), "WHEN will my package arrive", stream=True))
    words = [chunk.choices[0].delta.content for chunk in chunks]
    assert [word for word in words if word] == [GOOD]
    receipt = chunks[-1].model_dump()["featherdesk"]
    assert (receipt["cached"], receipt["author"], receipt["replaces"]) == (True, "model", False)
    assert [one["entry_id"] for one in receipt["citations"]] == ["delivery"]
    again = _asked(client_of(url))
    assert again.model_dump()["featherdesk"]["cached"]
    assert again.usage.total_tokens == 0
    assert (_counted(url, "hit"), _counted(url, "miss")) == (2, 1)


def test_what_was_looked_for_in_an_empty_cache_is_counted(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    bot = bot_of(REFUSAL)
    bot.agent.answers = AnswerCache(10**6)
    url = serving(create_app(bot))
    _asked(client_of(url))
    assert (len(bot.agent.answers), _counted(url, "miss")) == (0, 1)


def test_without_a_cache_nothing_is_counted(
    bot_of: Callable[..., Any], serving: Callable[[Any], str], client_of: Callable[..., OpenAI]
) -> None:
    url = serving(create_app(bot_of(GOOD)))
    for _ in range(2):
        assert not _asked(client_of(url)).model_dump()["featherdesk"]["cached"]
    assert (_counted(url, "hit"), _counted(url, "miss")) == (0, 0)


@end_to_end
def test_entries_that_were_found_stored_are_counted(server: Any) -> None:
    stored = 'featherdesk_blocks_total{stored="yes"}'
    before = _figure(server.url, stored)
    asked = [{"role": "user", "content": "What does express delivery to Leeds cost me?"}]
    assert _chat(server, messages=asked).json()["featherdesk"]["author"] == "model"
    assert _figure(server.url, stored) > before


@end_to_end
def test_a_served_bot_keeps_answers_unless_it_is_told_not_to(
    server: Any, shop: Path, start: Callable[..., Any]
) -> None:
    message = {"role": "user", "content": ASKED}
    _chat(server, messages=[message])
    assert _chat(server, messages=[message]).json()["featherdesk"]["cached"]
    still = start(shop, "--no-page", env={"FEATHERDESK_GENERATION_CACHED": "0"}).wait(page=False)
    for _ in range(2):
        assert not _chat(still, messages=[message]).json()["featherdesk"]["cached"]
    still.stop()

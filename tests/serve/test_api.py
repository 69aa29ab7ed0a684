"""The HTTP API against the real server and the real model."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

pytestmark = pytest.mark.end_to_end
ASKED = "How much does standard delivery in the UK cost?"


def _chat(server: Any, **body: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)


def test_health_and_models(server: Any) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    models = httpx.get(f"{server.url}/v1/models").json()
    assert models["data"][0]["object"] == "model"
    assert "featherdesk_replies" in httpx.get(f"{server.url}/metrics").text


def test_the_openai_client_gets_an_answer_with_its_receipt(server: Any) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    done = client.chat.completions.create(model="x", messages=[{"role": "user", "content": ASKED}])
    assert "£" in (done.choices[0].message.content or "")
    receipt = done.model_dump()["featherdesk"]
    assert receipt["grounded"]
    assert receipt["author"] in {"model", "fallback"}
    assert receipt["citations"]


def test_the_stream_is_the_same_reply(server: Any) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    whole = client.chat.completions.create(model="x", messages=[{"role": "user", "content": ASKED}])
    chunks = list(
        client.chat.completions.create(
            model="x", messages=[{"role": "user", "content": ASKED}], stream=True
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text.strip().endswith((whole.choices[0].message.content or "").strip()[-20:])
    assert len(chunks) > 4
    assert chunks[-1].choices[0].finish_reason == "stop"


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


def test_what_is_not_json_is_refused(server: Any) -> None:
    answer = httpx.post(
        f"{server.url}/v1/chat/completions",
        content=b"\xff\x00{",
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "'; DROP TABLE x", "😀" * 300, "‮‮‮"])
def test_hostile_questions_get_a_calm_reply(server: Any, text: str) -> None:
    assert _chat(server, messages=[{"role": "user", "content": text}]).status_code == 200


def test_security_headers_are_set(server: Any) -> None:
    headers = httpx.get(f"{server.url}/healthz").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


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


def test_a_port_in_use_is_said_in_one_line(server: Any, shop: Path, cli: Any) -> None:
    done = cli("serve", str(shop), "--port", str(server.port))
    assert done.returncode == 1
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_artefact_is_not_served(shop: Path, tmp_path: Path, cli: Any) -> None:
    told = json.loads((shop / "manifest.json").read_text())
    told["gate"] = {"result": "refused"}
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    done = cli("serve", str(tmp_path))
    assert done.returncode == 1
    assert "--accept-refused" in done.stderr

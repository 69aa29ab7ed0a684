import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.types import Turn
from featherdesk.serve.crowd import _flat, _Users, crowd, queue
from featherdesk.serve.prompts import Prompt
from featherdesk.serve.served import Busy, ask

RECEIPT = {"author": "model", "route": "answer", "ms": {"route": 2.0}}


@dataclass
class Fake:
    """What a test wants of the server that it talks to; every `busy` asked is sent away."""

    url: str = ""
    pid: int = 0
    busy: int = 0
    retry_after: str = "0.01"
    error: str = ""
    receipt: dict[str, Any] | None = None
    seen: int = 0
    bodies: list[dict[str, Any]] | None = None


@pytest.fixture
def fake() -> Iterator[Fake]:
    told = Fake(pid=os.getpid(), receipt=RECEIPT, bodies=[])
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                told.seen += 1
                told.bodies.append(body)  # type: ignore[union-attr]
                away = told.busy and told.seen % told.busy == 0
            if away:
                self.send_response(503)
                if told.retry_after:
                    self.send_header("Retry-After", told.retry_after)
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self._chunk(choices=[{"delta": {"role": "assistant"}}])
            if told.error:
                self._chunk(error={"message": told.error})
                return
            for word in ("By ", "card."):
                self._chunk(choices=[{"delta": {"content": word}}])
            if told.receipt:
                self._chunk(choices=[{"delta": {}}], featherdesk=told.receipt)
                self._chunk(choices=[], usage={"prompt_tokens": 30, "completion_tokens": 8})
            self.wfile.write(b"data: [DONE]\n\n")

        def _chunk(self, **told: object) -> None:
            self.wfile.write(f"data: {json.dumps(told)}\n\n".encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


PROMPTS = [Prompt(str(n), f"question {n}", (), (5,), ("x",), (), (), 8) for n in range(12)]


def test_a_reply_is_heard_as_the_client_sees_it(fake: Fake) -> None:
    heard = ask(fake.url, "how do I pay", [Turn("user", "hello"), Turn("assistant", "hi")])
    assert heard.text == "By card."
    assert 0 < heard.first <= heard.whole <= heard.closed
    assert (heard.prompt, heard.tokens, heard.author, heard.route_ms) == (30, 8, "model", 2.0)
    assert fake.bodies is not None
    assert [one["content"] for one in fake.bodies[0]["messages"]] == ["hello", "hi", "how do I pay"]


def test_a_reply_from_the_cache_is_not_the_models(fake: Fake) -> None:
    fake.receipt = {**RECEIPT, "cached": True}
    assert ask(fake.url, "how do I pay").author == "cache"


def test_what_goes_wrong_is_said(fake: Fake) -> None:
    fake.error = "the answer took too long"
    with pytest.raises(FeatherdeskError, match="the answer took too long"):
        ask(fake.url, "?")
    fake.error, fake.receipt = "", None
    with pytest.raises(FeatherdeskError, match="ended before the reply did"):
        ask(fake.url, "?")
    fake.busy, fake.seen = 1, 0
    with pytest.raises(Busy) as busy:
        ask(fake.url, "?")
    assert busy.value.retry_after == 0.01
    with pytest.raises(FeatherdeskError, match="did not answer"):
        ask("http://127.0.0.1:9", "?")


def test_users_ask_all_questions_and_come_again_when_sent_away(fake: Fake) -> None:
    fake.busy = 5
    told = crowd(fake, 4, PROMPTS)  # type: ignore[arg-type]
    assert (told.users, told.answers, told.model) == (4, 12, 12)
    assert told.busy == fake.seen - 12 > 0
    assert told.busy_without_retry_after == 0
    assert told.errors == {}
    rounded = 0.006 * told.answers_a_second + 0.001 * told.seconds
    assert told.answers_a_second * told.seconds == pytest.approx(12, abs=rounded)
    assert 0 < told.first_p50_ms <= told.p50_ms <= told.p95_ms


def test_a_503_without_retry_after_and_other_errors_are_told_apart(fake: Fake) -> None:
    fake.busy, fake.retry_after = 6, ""
    told = crowd(fake, 2, PROMPTS[:6])  # type: ignore[arg-type]
    assert told.busy == told.busy_without_retry_after > 0
    fake.busy, fake.error = 0, "the generator failed"
    with pytest.raises(FeatherdeskError, match=r"no question was answered.*the generator failed"):
        crowd(fake, 2, PROMPTS)  # type: ignore[arg-type]


def test_users_ask_every_question_once_or_until_the_time_is_over() -> None:
    asked: list[Any] = [("a", []), ("b", [])]
    once = _Users("", asked, 0.0)
    assert [once._take() for _ in range(4)] == [*asked, None, None]
    timed = _Users("", asked, 3600.0)
    assert [timed._take() for _ in range(5)] == [*asked, *asked, asked[0]]
    over = _Users("", asked, 1e-9)
    assert over._take() is None


def test_users_ask_for_as_long_as_is_wanted(fake: Fake) -> None:
    told = crowd(fake, 2, PROMPTS[:2], seconds=1.0)  # type: ignore[arg-type]
    assert told.answers == told.model > 0
    assert told.seconds >= 1.0


def test_one_who_answers_in_turn_has_a_queue() -> None:
    told = queue(3, [1.0] * 6)
    assert told.answers_a_second == 1.0
    assert told.p50_ms == pytest.approx(3000.0)
    assert queue(1, [0.5, 0.5]).p95_ms == 500.0


@pytest.mark.parametrize(
    ("memory", "flat"),
    [
        (lambda n: 100.0, True),
        (lambda n: 60.0 + min(n, 50), True),
        (lambda n: 100.0 + n / 4, False),
    ],
)
def test_memory_is_flat_when_it_does_not_grow_after_the_start(
    memory: Callable[[int], float], flat: bool
) -> None:
    assert _flat([memory(n) for n in range(400)]) is flat
    assert _flat([memory(n) for n in range(20)]) is None

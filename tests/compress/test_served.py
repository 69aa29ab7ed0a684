"""A bot that is judged is asked as its users ask, but answers nothing from memory."""

import sys
from pathlib import Path

import pytest
from featherdesk.agent.evaluate import Told
from featherdesk.agent.types import Author, RouteKind
from featherdesk.compress.served import Asked, Received, Replies, ask_bot

SERVER = """
import http.server, json, os, sys

class Told(http.server.BaseHTTPRequestHandler):
    def _send(self, told):
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._send({})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        text = os.environ.get("FEATHERDESK_GENERATION_CACHED", "")
        receipt = {"route": "answer", "author": "model", "text": text, "raw_text": text, "parts": 1}
        self._send({"featherdesk": {**receipt, "candidates": [], "passed": [], "citations": []}})

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Told).serve_forever()
"""


def test_the_answer_cache_is_off_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATHERDESK_GENERATION_CACHED", "64")
    (told,) = ask_bot(
        tmp_path,
        [Asked("when?")],
        Replies("b", tmp_path),
        command=lambda _, port: [sys.executable, "-c", SERVER, str(port)],
    )
    assert told.told.text == "0"


def test_no_proxy_of_the_environment_comes_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    (told,) = ask_bot(
        tmp_path,
        [Asked("when?")],
        Replies("b", tmp_path),
        command=lambda _, port: [sys.executable, "-c", SERVER, str(port)],
    )
    assert not told.error


def test_replies_that_were_cut_inside_a_character_are_asked_again(tmp_path: Path) -> None:
    asked, other = Asked("price?"), Asked("when?")
    kept = Replies("b", tmp_path)
    for one in (asked, other):
        kept.keep(one, Received(Told(RouteKind.ANSWER, Author.MODEL, "£4.95", "", (), (), ())))
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][: lines[1].index("£".encode()) + 1])
    again = Replies("b", tmp_path)
    assert again.get(asked) is not None
    assert again.get(other) is None

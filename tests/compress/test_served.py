"""A bot that is judged is asked as its users ask, but answers nothing from memory."""

import sys
from pathlib import Path

import pytest
from featherdesk.compress.served import Asked, Replies, ask_bot

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

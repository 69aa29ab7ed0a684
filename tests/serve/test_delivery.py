"""Hand-offs reach staff: against a real HTTP server and a real SMTP server on this machine."""

import email.policy
import hashlib
import hmac
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from featherdesk.agent.conversations import Store
from featherdesk.agent.errors import ConfigError
from featherdesk.agent.handoff import summarize
from featherdesk.agent.stages import Handoff
from featherdesk.agent.types import Author, Match, Reply, Route, RouteKind
from featherdesk.agent.types import Handoff as Offer
from featherdesk.agent.types import HandoffReason as Reason
from featherdesk.serve.delivery import (
    Courier,
    Mail,
    Retries,
    Webhook,
    identity,
    open_channels,
    signature,
)

SOON = Retries(first=0.0, longest=0.0, attempts=3, lease=0.0)
PASSWORD = "correct horse"


class Hook:
    """A web server that notes what is posted to it and answers with the statuses it is given."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.arrived, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                hook.arrived.set()
                hook.go_on.wait(30)
                self.send_response(hook.statuses.pop(0) if hook.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/desk/hook?token=t0k3n"

    def stop(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Inbox:
    """What a mail server does with a mail: keep it, or refuse it with the next reply."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refusals: list[str] = []
        self.logins: list[bytes] = []

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refusals:
            return self.refusals.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        parsed = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(content)
        self.mails.append(parsed)
        return "250 taken"

    def authenticate(self, *given: object) -> AuthResult:
        told = given[-1]
        assert isinstance(told, LoginPassword)
        self.logins.append(told.password)
        return AuthResult(success=told.password == PASSWORD.encode(), handled=False)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'c.db'}")
    yield made
    made.close()


@pytest.fixture
def serve_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts a mail server; its certificate is trusted as one of the system's is."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    running: list[Controller] = []

    def start(inbox: Inbox, tls: str = "none", **options: Any) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        server = Controller(
            inbox,
            "127.0.0.1",
            port,
            ready_timeout=120,
            ssl_context=context if tls == "ssl" else None,
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            **options,
        )
        server.start()
        running.append(server)
        return port

    yield start
    for server in running:
        server.stop()


def _failed_twice(store: Store, key: str = "k") -> None:
    matches = (Match("delivery", 0.11, matched="How long does delivery take?"),)
    route = Route(RouteKind.HANDOFF, 0.11, 0.14, matches, reason=Reason.LOW_CONFIDENCE)
    offer = Offer(Reason.FAILED_TWICE)
    store.add(
        key,
        "my card 4111 1111 1111 1111, ship to Mars?",
        Reply("I could not.", route, Author.CURATED, handoff=offer),
    )


def _courier(store: Store, settings: Handoff, **options: Any) -> Courier:
    told: dict[str, Any] = {"environment": {}, "retries": SOON, **options}
    return Courier(store, "Lärkfell", lambda: settings, **told)


def _asked(store: Store, settings: Handoff, **more: Any) -> str:
    _failed_twice(store)
    return store.hand_off("k", "failed_twice", channels=settings.channels, **more)


def test_a_hand_off_is_posted_once_signed_and_whole(store: Store, hook: Hook) -> None:
    settings = Handoff(webhook=hook.url)
    number = _asked(store, settings, note="call after six", contact="ann@b.example")
    courier = _courier(store, settings, environment={"FEATHERDESK_HANDOFF_SECRET": "s3cret"})
    assert [courier.deliver(), courier.deliver()] == [1, 0]
    [(headers, body)] = hook.got
    told = json.loads(body)
    assert (told["event"], told["bot"], told["number"]) == ("handoff", "Lärkfell", number)
    assert (told["reason"], told["contact"]) == ("failed_twice", "ann@b.example")
    assert told["note"] == "call after six"
    assert told["conversation"][0]["text"] == "my card [card], ship to Mars?"
    assert told["considered"][0]["entry_id"] == "delivery"
    expected = "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["x-featherdesk-signature"] == expected
    assert headers["idempotency-key"].startswith(f"{number}-1-")


def test_without_a_secret_nothing_is_signed_and_that_is_said(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Handoff(webhook=hook.url)
    _asked(store, settings)
    assert _courier(store, settings).deliver() == 1
    assert "x-featherdesk-signature" not in hook.got[0][0]
    assert "FEATHERDESK_HANDOFF_SECRET" in caplog.text


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_a_failing_webhook_is_tried_again_with_the_same_key(
    store: Store, hook: Hook, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Handoff(webhook=hook.url)
    _asked(store, settings)
    hook.statuses = [status]
    courier = _courier(store, settings)
    assert [courier.deliver(), courier.deliver(), courier.deliver()] == [0, 1, 0]
    keys = {headers["idempotency-key"] for headers, _ in hook.got}
    assert (len(hook.got), len(keys)) == (2, 1)
    assert f"HTTP {status}" in caplog.text
    assert "t0k3n" not in caplog.text


def test_what_does_not_arrive_waits_longer_and_longer_and_is_given_up(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Handoff(webhook=hook.url)
    number = _asked(store, settings)
    hook.statuses = [500] * 9
    courier = _courier(store, settings)
    assert sum(courier.deliver() for _ in range(9)) == 0
    assert len(hook.got) == 3
    assert f"{number}: webhook failed, attempt 3: HTTP 500; given up" in caplog.text
    [item] = [item for item in store.inbox() if item.kind == "handoff"]
    assert item.delivery == "webhook given up: HTTP 500"
    hook.statuses = []
    assert (store.outbox.resend(), courier.deliver()) == (1, 1)
    assert [i.delivery for i in store.inbox() if i.kind == "handoff"] == ["webhook sent"]


def test_waits_double_up_to_the_longest_and_end() -> None:
    waits = [Retries(1.0, 10.0, 6).wait(attempt) for attempt in range(1, 7)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, None]
    day = sum(Retries().wait(attempt) or 0 for attempt in range(1, 20))
    assert 20 < day / 3600 < 30


def test_an_attempt_is_not_due_before_its_wait_is_over(store: Store, hook: Hook) -> None:
    settings = Handoff(webhook=hook.url)
    _asked(store, settings)
    hook.statuses = [500]
    courier = _courier(store, settings, retries=Retries(first=1000.0))
    assert [courier.deliver(), courier.deliver(), courier.deliver(time.time() + 1001)] == [0, 0, 1]


def test_a_server_that_is_not_there_loses_nothing(store: Store, hook: Hook) -> None:
    settings = Handoff(webhook=hook.url)
    hook.stop()
    _asked(store, settings)
    assert _courier(store, settings).deliver() == 0
    assert "waiting" in next(i.delivery for i in store.inbox() if i.kind == "handoff")


def test_a_restart_goes_on_where_the_last_process_was(tmp_path: Path, hook: Hook) -> None:
    settings = Handoff(webhook=hook.url)
    first = Store(f"sqlite:///{tmp_path / 'r.db'}")
    _asked(first, settings)
    hook.statuses = [503]
    assert _courier(first, settings).deliver() == 0
    first.close()
    second = Store(f"sqlite:///{tmp_path / 'r.db'}")
    assert _courier(second, settings).deliver() == 1
    second.close()
    third = Store(f"sqlite:///{tmp_path / 'r.db'}")
    assert _courier(third, settings).deliver() == 0
    third.close()
    assert len(hook.got) == 2


KILLED = """
import sys
from featherdesk.agent.stages import Handoff
from featherdesk.agent.conversations import Store
from featherdesk.serve.delivery import Courier, Retries
store, settings = Store(sys.argv[1]), Handoff(webhook=sys.argv[2])
print(store.hand_off("k", "requested", channels=settings.channels), flush=True)
Courier(store, "b", lambda: settings, retries=Retries(lease=1.0)).deliver()
print("not reached")
"""


def test_a_process_killed_while_it_sends_loses_nothing(tmp_path: Path, hook: Hook) -> None:
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    hook.go_on.clear()
    command = [sys.executable, "-c", KILLED, url, hook.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert hook.arrived.wait(60)
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=30)
    assert (out.strip(), process.returncode) == ("H-00001", -signal.SIGKILL)
    hook.go_on.set()
    store = Store(url)
    courier = _courier(store, Handoff(webhook=hook.url))
    assert courier.deliver(time.time() + 2) == 1
    assert courier.deliver(time.time() + 2) == 0
    store.close()
    keys = [headers["idempotency-key"][:9] for headers, _ in hook.got]
    assert keys == ["H-00001-1"] * 2


def test_two_processes_send_it_once(store: Store, hook: Hook, tmp_path: Path) -> None:
    settings = Handoff(webhook=hook.url)
    _asked(store, settings)
    other = Store(f"sqlite:///{tmp_path / 'c.db'}")
    [seen] = other.outbox.due(("webhook",), time.time())
    assert _courier(store, settings, retries=Retries()).deliver() == 1
    assert not other.outbox.claim(seen, time.time() + 60)
    other.close()


def test_the_courier_sends_by_itself_and_stops(store: Store, hook: Hook) -> None:
    settings = Handoff(webhook=hook.url)
    courier = _courier(store, settings, every=0.05)
    courier.start()
    _asked(store, settings)
    assert hook.arrived.wait(30)
    courier.stop(wait=30)
    assert "featherdesk-courier" not in {thread.name for thread in threading.enumerate()}
    assert [i.delivery for i in store.inbox() if i.kind == "handoff"] == ["webhook sent"]


def test_a_contact_left_later_is_passed_on_and_waiting_ones_are_merged(
    store: Store, hook: Hook
) -> None:
    settings = Handoff(webhook=hook.url)
    _asked(store, settings, delay=1000)
    courier = _courier(store, settings)
    assert courier.deliver() == 0
    store.hand_off("k", "requested", contact="ann@b.example", channels=settings.channels)
    assert courier.deliver(time.time() + 2000) == 1
    store.hand_off("k", "requested", "order 12", channels=settings.channels)
    store.hand_off("k", "requested", "order 12", channels=settings.channels)
    assert courier.deliver(time.time() + 2000) == 1
    told = [json.loads(body) for _, body in hook.got]
    assert [(t["revision"], t["contact"], t["note"]) for t in told] == [
        (2, "ann@b.example", ""),
        (3, "ann@b.example", "order 12"),
    ]


def test_two_bots_never_share_a_key(store: Store) -> None:
    _asked(store, Handoff())
    keys = {identity(s) for n in ("a", "b") if (s := summarize(store, "H-00001", n))}
    assert len(keys) == 2


@pytest.mark.parametrize("tls", ["none", "starttls", "ssl"])
def test_a_hand_off_is_mailed_once(
    store: Store, serve_mail: Callable[..., int], tls: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    port = serve_mail(
        inbox, tls, authenticator=inbox.authenticate, auth_require_tls=tls == "starttls"
    )
    settings = Handoff(
        smtp_host="localhost",
        smtp_port=port,
        smtp_tls=tls,
        smtp_user="bot@b.example",
        mail_to=("desk@b.example", "chief@b.example"),
    )
    number = _asked(store, settings, contact="ann@b.example", note="请回电")
    courier = _courier(store, settings, environment={"FEATHERDESK_SMTP_PASSWORD": PASSWORD})
    assert [courier.deliver(), courier.deliver()] == [1, 0], caplog.text
    [mail] = inbox.mails
    assert mail["Subject"] == f"[Lärkfell] {number}: two questions in a row went without an answer"
    assert mail["To"] == "desk@b.example, chief@b.example"
    assert "bot@b.example" in mail["From"]
    assert mail["Reply-To"] == "ann@b.example"
    assert mail["Message-ID"].startswith(f"<{number}-1-")
    text = mail.get_content()
    assert "请回电" in text
    assert "my card [card], ship to Mars?" in text
    assert "0.11  delivery" in text
    assert inbox.logins == [PASSWORD.encode()]
    assert PASSWORD not in caplog.text


def test_a_mail_server_that_refuses_is_tried_again(
    store: Store, serve_mail: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    inbox.refusals = ["451 try later"]
    settings = Handoff(
        smtp_host="127.0.0.1", smtp_port=serve_mail(inbox), smtp_tls="none", email="desk@b.example"
    )
    _asked(store, settings)
    courier = _courier(store, settings)
    assert [courier.deliver(), courier.deliver(), courier.deliver()] == [0, 1, 0]
    assert len(inbox.mails) == 1
    assert inbox.mails[0]["From"] == "Lärkfell <desk@b.example>"
    assert "451" in caplog.text


def test_a_wrong_password_is_one_line_without_the_password(
    store: Store, serve_mail: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    port = serve_mail(inbox, "none", authenticator=inbox.authenticate, auth_require_tls=False)
    settings = Handoff(
        smtp_host="localhost",
        smtp_port=port,
        smtp_tls="none",
        smtp_user="u@b.example",
        mail_to=("desk@b.example",),
    )
    _asked(store, settings)
    wrong = {"FEATHERDESK_SMTP_PASSWORD": "n0t-this-one"}
    assert _courier(store, settings, environment=wrong).deliver() == 0
    assert inbox.logins
    [line] = [r.getMessage() for r in caplog.records if "email failed" in r.getMessage()]
    assert "535" in line
    assert "\n" not in line
    assert "n0t-this-one" not in caplog.text
    assert "n0t-this-one" not in str(store.inbox())


def test_an_untrusted_certificate_is_not_accepted(
    store: Store, serve_mail: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    port = serve_mail(inbox, "ssl")
    monkeypatch.delenv("SSL_CERT_FILE")
    settings = Handoff(
        smtp_host="localhost", smtp_port=port, smtp_tls="ssl", mail_to=("desk@b.example",)
    )
    _asked(store, settings)
    assert _courier(store, settings).deliver() == 0
    assert inbox.mails == []


HOSTILE = [
    "a@b.example\nBcc: victim@c.example",
    "a@b.example\r\n\r\nbody",
    "a@b.example, victim@c.example",
    "<a@b.example>",
    "a@b",
    "a..b@c.example",
    "@",
    "+44 1632 960118",
]


@pytest.mark.parametrize("contact", HOSTILE)
def test_no_header_can_be_slipped_in(store: Store, contact: str) -> None:
    settings = Handoff(smtp_host="localhost", mail_to=("desk@b.example",))
    number = _asked(store, settings, contact=contact, note="x\r\nBcc: victim@c.example")
    summary = summarize(store, number, "Bot\r\nBcc: victim@c.example")
    assert summary is not None
    raw = Mail(settings).message(summary).as_bytes()
    parsed = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(raw)
    assert parsed["Bcc"] is None
    assert parsed["To"] == "desk@b.example"
    assert parsed["Reply-To"] is None
    assert set(parsed.keys()) <= {
        "Subject",
        "From",
        "To",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }


def test_a_user_without_a_password_is_one_clear_line(store: Store) -> None:
    settings = Handoff(smtp_host="h", smtp_user="u", mail_to=("desk@b.example",))
    with pytest.raises(ConfigError, match="FEATHERDESK_SMTP_PASSWORD is not; export it"):
        _courier(store, settings)


def test_settings_taken_away_leave_what_waits(store: Store, hook: Hook) -> None:
    settings = Handoff(webhook=hook.url)
    _asked(store, settings)
    assert _courier(store, Handoff()).deliver() == 0
    assert hook.got == []
    assert _courier(store, settings).deliver() == 1


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERDESK_HANDOFF_SECRET", "s3cret")
    opened = open_channels(Handoff(webhook="https://desk.example/hook"))
    assert opened == {"webhook": Webhook("https://desk.example/hook", "s3cret")}


def test_an_echoed_secret_is_blotted_out(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Handoff(webhook=hook.url)
    courier = _courier(store, settings, environment={"FEATHERDESK_HANDOFF_SECRET": "HTTP"})
    _asked(store, settings)
    hook.statuses = [500]
    with caplog.at_level(logging.WARNING):
        courier.deliver()
    assert "*** 500" in caplog.text


def test_the_check_in_the_docs_holds() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "handoff.md").read_text("utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    told: dict[str, Any] = {}
    exec(code, told)
    body = b'{"event": "handoff"}'
    assert told["genuine"](body, signature(body, "s"), "s")
    assert not told["genuine"](body + b" ", signature(body, "s"), "s")


@pytest.mark.end_to_end
def test_serve_delivers_what_a_killed_server_left(
    shop: Path, start: Any, hook: Hook, tmp_path: Path
) -> None:
    """A customer asks for a person through the API; the server is killed while it tells staff."""
    import httpx

    env = {
        "FEATHERDESK_HANDOFF_WEBHOOK": hook.url,
        "FEATHERDESK_HANDOFF_SECRET": "s3cret-s3cret",
        "FEATHERDESK_STORAGE_URL": f"sqlite:///{tmp_path / 'served.db'}",
    }
    hook.go_on.clear()
    first = start(shop, "--no-page", env=env).wait(page=False)
    body = {
        "messages": [
            {"role": "user", "content": "do you ship to Mars?"},
            {"role": "assistant", "content": "I don't know."},
            {"role": "user", "content": "talk to a person"},
        ]
    }
    told = httpx.post(f"{first.url}/v1/chat/completions", json=body, timeout=60).json()
    number = told["featherdesk"]["handoff"]["number"]
    assert number in told["choices"][0]["message"]["content"]
    assert hook.arrived.wait(60)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.communicate(timeout=30)
    hook.go_on.set()
    store = Store(env["FEATHERDESK_STORAGE_URL"])
    assert "waiting" in next(i.delivery for i in store.inbox() if i.kind == "handoff")
    [parcel] = store.outbox.due(("webhook",), time.time() + 500)
    store.outbox.failed(parcel, "killed", 0.0)  # as if the lease had run out
    hook.arrived.clear()
    second = start(shop, "--no-page", env=env).wait(page=False)
    assert hook.arrived.wait(60)
    for _ in range(100):
        if store.outbox.due(("webhook",), time.time() + 9999) == []:
            break
        time.sleep(0.1)
    again = httpx.post(
        f"{second.url}/v1/chat/completions",
        json={
            "messages": [
                *body["messages"],
                {"role": "assistant", "content": told["choices"][0]["message"]["content"]},
                {"role": "user", "content": "talk to a person"},
            ]
        },
        timeout=60,
    ).json()
    assert again["featherdesk"]["handoff"]["number"] == number
    said = second.stop()
    assert "s3cret-s3cret" not in said
    assert next(i.delivery for i in store.inbox() if i.kind == "handoff") == "webhook sent"
    assert len([i for i in store.inbox() if i.kind == "handoff"]) == 1
    store.close()
    assert len(hook.got) == 2
    assert len({headers["idempotency-key"] for headers, _ in hook.got}) == 1
    assert json.loads(hook.got[0][1])["conversation"][0]["text"] == "do you ship to Mars?"


def test_wrong_settings_stop_serve_with_one_line(shop: Path, cli: Any) -> None:
    env = {**os.environ, "FEATHERDESK_HANDOFF_WEBHOOK": "ftp://x/y"}
    done = cli("serve", str(shop), "--no-page", "--port", "0", env=env)
    assert done.returncode == 1
    assert "handoff.webhook must be an address such as https://" in done.stderr
    assert "Traceback" not in done.stderr

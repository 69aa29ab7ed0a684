"""Tells staff of hand-offs by webhook and by mail, off the reply's path, until it has arrived.

What is sent is read from the store when it is sent. A parcel is sent at least once: after a crash
between arriving and being noted it comes again, with the same idempotency key and Message-ID.
Secrets come from the environment and never reach a log.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import os
import re
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Protocol
from urllib.parse import urlsplit

from ..agent.conversations import Store
from ..agent.errors import ConfigError, FeatherdeskError
from ..agent.handoff import Summary, summarize
from ..agent.outbox import Parcel
from ..agent.stages import Handoff
from ..agent.texts import REASONS

__all__ = [
    "SECRET",
    "SIGNATURE",
    "SMTP_PASSWORD",
    "Channel",
    "Courier",
    "Mail",
    "Retries",
    "Webhook",
    "open_channels",
    "signature",
]

SECRET = "FEATHERDESK_HANDOFF_SECRET"
SMTP_PASSWORD = "FEATHERDESK_SMTP_PASSWORD"
SIGNATURE = "X-Featherdesk-Signature"
_TIMEOUT = 15.0
_ATOM = r"[A-Za-z0-9_%+-]+"
_CONTACT = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")

log = logging.getLogger(__name__)


class Channel(Protocol):
    """A way to tell staff of a hand-off."""

    def send(self, summary: Summary) -> None:
        """Send it.

        Raises:
            OSError, http.client.HTTPException, ValueError: it has not arrived.
        """
        ...


def signature(body: bytes, secret: str) -> str:
    """What the signature header holds: `sha256=` and the HMAC-SHA256 of the body, in hex."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def identity(summary: Summary) -> str:
    """Names what is sent, the same at every attempt: `H-00012-1-9f8e7d6c5b4a`.

    Other bots count their own requests from one, and so does a new database: the digest is of
    the bot's name and the time of the request.
    """
    told = hashlib.sha256(f"{summary.bot} {summary.at}".encode()).hexdigest()[:12]
    return f"{summary.number}-{summary.revision}-{told}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs the summary as JSON, signed when there is a secret; follows no redirect."""

    address: str
    secret: str = ""
    timeout: float = _TIMEOUT

    def send(self, summary: Summary) -> None:
        """Send it; any status but 2xx is a failure."""
        told = {"event": "handoff", **summary.to_json()}
        body = json.dumps(told, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Featherdesk",
            "Idempotency-Key": identity(summary),
        }
        if self.secret:
            headers[SIGNATURE] = signature(body, self.secret)
        parts = urlsplit(self.address)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("POST", path, body, headers)
            with connection.getresponse() as answer:
                status = answer.status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise OSError(f"HTTP {status}")

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(
                host, port or 443, timeout=self.timeout, context=trusted
            )
        return http.client.HTTPConnection(host, port or 80, timeout=self.timeout)


@dataclass(frozen=True, slots=True)
class Mail:
    """Sends the summary as a plain mail; an answer to it goes to the customer where possible."""

    settings: Handoff
    password: str = ""
    timeout: float = _TIMEOUT

    def message(self, summary: Summary) -> EmailMessage:
        """The mail. No text of the customer's reaches a header but a well-formed address."""
        settings = self.settings
        mail = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
        reason = REASONS.get(summary.reason, summary.reason)
        mail["Subject"] = _line(f"[{summary.bot}] {summary.number}: {reason}")
        name, domain = _line(summary.bot), settings.sender.partition("@")[2]
        mail["From"] = Address(display_name=name, addr_spec=settings.sender)
        mail["To"] = [Address(addr_spec=address) for address in settings.recipients]
        if _CONTACT.fullmatch(summary.contact):
            mail["Reply-To"] = Address(addr_spec=summary.contact)
        mail["Message-ID"] = f"<{identity(summary)}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(summary.to_text())
        return mail

    def send(self, summary: Summary) -> None:
        """Send it."""
        settings = self.settings
        server = self._connected()
        try:
            if settings.smtp_tls == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.smtp_user:
                server.login(settings.smtp_user, self.password)
            refused = server.send_message(self.message(summary))
            with contextlib.suppress(OSError):  # it has been taken; how we part does not matter
                server.quit()
        finally:
            server.close()
        for address in refused:
            log.warning("hand-off %s: the mail server refused %s", summary.number, address)

    def _connected(self) -> smtplib.SMTP:
        host, port = self.settings.smtp_host, self.settings.port
        if self.settings.smtp_tls == "ssl":
            trusted = ssl.create_default_context()
            return smtplib.SMTP_SSL(host, port, timeout=self.timeout, context=trusted)
        return smtplib.SMTP(host, port, timeout=self.timeout)


def _line(text: str) -> str:
    """On one line, of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def open_channels(
    settings: Handoff, environment: Mapping[str, str] | None = None
) -> dict[str, Channel]:
    """The channels that are set up, by name.

    Raises:
        ConfigError: a user is set but no password.
    """
    known = os.environ if environment is None else environment
    found: dict[str, Channel] = {}
    if settings.webhook:
        found["webhook"] = Webhook(settings.webhook, known.get(SECRET, ""))
    if settings.smtp_host:
        password = known.get(SMTP_PASSWORD, "")
        if settings.smtp_user and not password:
            raise ConfigError(f"handoff.smtp_user is set, but {SMTP_PASSWORD} is not; export it")
        found["email"] = Mail(settings, password)
    return found


@dataclass(frozen=True, slots=True)
class Retries:
    """When to try again: after `first` seconds, then twice as long up to `longest`.

    Twenty attempts take a day. `lease` is how long an attempt may take before another process
    may take over.
    """

    first: float = 30.0
    longest: float = 7200.0
    attempts: int = 20
    lease: float = 120.0

    def wait(self, attempt: int) -> float | None:
        """Seconds after a failed attempt (from 1); None after the last."""
        if attempt >= self.attempts:
            return None
        return float(min(self.longest, self.first * 2 ** min(attempt - 1, 30)))


class Courier:
    """Sends what is due, in a thread of its own; what was waiting is sent after a restart.

    `settings` is asked at every pass, so that a rebuilt bot's take effect.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        settings: Callable[[], Handoff],
        *,
        environment: Mapping[str, str] | None = None,
        retries: Retries | None = None,
        every: float = 3.0,
    ) -> None:
        self._store, self._name, self._settings = store, name, settings
        self._environment = os.environ if environment is None else environment
        self._retries, self._every = retries or Retries(), every
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""
        open_channels(settings(), self._environment)
        if settings().webhook and not self._environment.get(SECRET):
            log.warning("hand-offs are posted unsigned; set %s to sign them", SECRET)

    def start(self) -> None:
        """Begin sending in the background."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="featherdesk-courier", daemon=True)
        self._thread.start()

    def stop(self, wait: float = 5.0) -> None:
        """Stop; an attempt that has begun is waited for, but not for long."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(wait)
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.deliver()
                self._trouble = ""
            except FeatherdeskError as error:
                if str(error) != self._trouble:
                    log.warning("hand-offs wait: %s", error)
                self._trouble = str(error)
            self._stopping.wait(self._every)

    def deliver(self, now: float | None = None) -> int:
        """Send all that is due by now (Unix seconds); returns how many parcels arrived.

        Raises:
            FeatherdeskError: the store cannot be read, or a password is missing.
        """
        channels = open_channels(self._settings(), self._environment)
        if not channels:
            return 0
        arrived = 0
        for parcel in self._store.outbox.due(tuple(channels), time.time() if now is None else now):
            if self._stopping.is_set():
                break
            if self._store.outbox.claim(parcel, time.time() + self._retries.lease):
                arrived += self._attempt(parcel, channels[parcel.channel])
        return arrived

    def _attempt(self, parcel: Parcel, channel: Channel) -> bool:
        summary = summarize(self._store, parcel.number, self._name)
        if summary is None:
            self._store.outbox.failed(parcel, "there is no such request", None)
            return False
        try:
            channel.send(summary)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._failed(parcel, self._safe(error))
            return False
        self._store.outbox.sent(parcel)
        log.info("hand-off %s: sent by %s", parcel.number, parcel.channel)
        return True

    def _failed(self, parcel: Parcel, error: str) -> None:
        attempt = parcel.attempts + 1
        wait = self._retries.wait(attempt)
        again = None if wait is None else time.time() + wait
        self._store.outbox.failed(parcel, error, again)
        what = f"hand-off {parcel.number}: {parcel.channel} failed, attempt {attempt}: {error}"
        if wait is None:
            log.error("%s; given up, see `featherdesk inbox`", what)
        else:
            log.warning("%s; again in %.0f s", what, wait)

    def _safe(self, error: Exception) -> str:
        """What went wrong, on one line, without the secrets."""
        told = _line(str(error)) or type(error).__name__
        for name in (SECRET, SMTP_PASSWORD):
            secret = self._environment.get(name, "")
            told = told.replace(secret, "***") if secret else told
        return told[:200]

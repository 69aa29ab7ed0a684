"""The stages of a bot.toml: one frozen dataclass each, which checks itself when it is built.

Knows nothing of files, nor of what the stages do with their settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigError

__all__ = [
    "Bot",
    "BotConfig",
    "Finetune",
    "Generation",
    "Guards",
    "Handoff",
    "Page",
    "Retrieval",
    "Routing",
    "Skills",
    "Storage",
]

_ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?")
_PORTS = {"starttls": 587, "ssl": 465, "none": 25}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


@dataclass(frozen=True, slots=True)
class Bot:
    """Name and FAQ files, relative to bot.toml.

    `out_of_scope` are text files of questions that the bot should not answer, one a line.
    """

    name: str = "bot"
    faq: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    language: str = "auto"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """`encoder` is `auto` (English: MiniLM, else multilingual), `none` or a catalogue id.

    `reranker` reads the best few entries together with the question: `auto` (where a FAQ has
    English entries), `none` or a catalogue id. `classifier` is a folder that `featherdesk classify
    BOT.toml` made; paths are relative to bot.toml.
    """

    encoder: str = "auto"
    reranker: str = "auto"
    classifier: str = ""


@dataclass(frozen=True, slots=True)
class Routing:
    """`risk` is the share of answers that may stand on a wrong entry, 0.03 for 3 %; below 0 the
    build finds the best middle between wrong answers and questions not answered."""

    risk: float = -1.0

    def __post_init__(self) -> None:
        if self.risk >= 0.5:
            raise ConfigError(f"routing.risk is a share, 0.03 for 3 %; {self.risk} is too much")


@dataclass(frozen=True, slots=True)
class Generation:
    """The generator: base model and adapter by catalogue id or folder; times in seconds.

    `writes` are the languages in which the model writes, others are answered word for word; a bot
    that writes in none has no generator. `stored_mb` is the room for what the model keeps of
    entries once it has read them: below 0 as much as the generator takes, 0 reads them each time.
    `cached` is the room (MB) in which a server keeps answers for those who ask the same; 0: none.
    `batch` answers are written at a time and `queue` others may wait; where three are written at
    once they `share_passes`, which takes the memory of the weights twice from then on. `cuda_graph`
    has a GPU replay its steps.
    """

    base: str = "smollm2-135m-instruct"
    adapter: str = "grounded"
    writes: tuple[str, ...] = ("en",)
    max_tokens: int = 192
    timeout: float = 30.0
    threads: int = 0
    refusal: float = -1.0
    stored_mb: float = -1.0
    cached: float = 8.0
    batch: int = 8
    queue: int = 64
    share_passes: bool = True
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if not 8 <= self.max_tokens <= 1024:
            raise ConfigError(f"generation.max_tokens must be 8 to 1024, not {self.max_tokens}")
        if self.timeout <= 0:
            raise ConfigError(f"generation.timeout must be above 0 s, not {self.timeout}")
        if self.threads < 0:
            raise ConfigError(f"generation.threads must be 0 (all cores) or more: {self.threads}")
        if not 0 <= self.cached <= 4096:
            raise ConfigError(f"generation.cached must be 0 (off) to 4096 MB, not {self.cached}")
        if not 1 <= self.batch <= 256:
            raise ConfigError(f"generation.batch must be 1 to 256, not {self.batch}")
        if self.queue < 1:
            raise ConfigError(f"generation.queue must be 1 or more, not {self.queue}")


@dataclass(frozen=True, slots=True)
class Handoff:
    """How a customer reaches a person, and how staff are told that one wants to.

    `webhook` is POSTed to; with `smtp_host` a mail goes to `mail_to` (else `email`). `smtp_tls`
    is `starttls`, `ssl` or `none`; port 0 is the usual one of each. Secrets stand in the
    environment: FEATHERDESK_HANDOFF_SECRET, FEATHERDESK_SMTP_PASSWORD.
    """

    email: str = ""
    url: str = ""
    phone: str = ""
    hours: str = ""
    webhook: str = ""
    smtp_host: str = ""
    smtp_port: int = 0
    smtp_tls: str = "starttls"
    smtp_user: str = ""
    smtp_from: str = ""
    mail_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.webhook:
            _check_webhook(self.webhook)
        if self.smtp_host:
            self._check_mail()

    def _check_mail(self) -> None:
        if self.smtp_tls not in _PORTS:
            raise ConfigError(
                f"handoff.smtp_tls must be one of {', '.join(_PORTS)}, not {self.smtp_tls!r}"
            )
        if not 0 <= self.smtp_port <= 65535:
            raise ConfigError(f"handoff.smtp_port must be 0 to 65535, not {self.smtp_port}")
        if self.smtp_tls == "none" and self.smtp_user and self.smtp_host not in _LOOPBACK:
            raise ConfigError(
                'handoff.smtp_tls = "none" would send the password in the clear; '
                'use "starttls" or "ssl"'
            )
        if not self.recipients:
            raise ConfigError("handoff.smtp_host is set, but neither handoff.mail_to nor email")
        for address in (*self.recipients, self.sender):
            if not _ADDRESS.fullmatch(address):
                raise ConfigError(
                    f"handoff.mail_to, email and smtp_from must be mail addresses, not {address!r}"
                )

    @property
    def channels(self) -> tuple[str, ...]:
        """What staff are told by: `webhook`, `email`, both or nothing."""
        return ("webhook",) * bool(self.webhook) + ("email",) * bool(self.smtp_host)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who gets the mail."""
        return self.mail_to or (self.email,) * bool(self.email)

    @property
    def sender(self) -> str:
        """Whom the mail is from."""
        user = self.smtp_user if _ADDRESS.fullmatch(self.smtp_user) else ""
        return self.smtp_from or user or self.recipients[0]

    @property
    def port(self) -> int:
        """The port of the mail server."""
        return self.smtp_port or _PORTS[self.smtp_tls]


@dataclass(frozen=True, slots=True)
class Page:
    """What the chat page shows; an empty title is the bot's name.

    `embed_origins` are the web sites that may show the page in a frame, beside its own.
    With `receipts` a small link under each reply tells why it came out so.
    """

    title: str = ""
    greeting: str = ""
    suggestions: tuple[str, ...] = ()
    embed_origins: tuple[str, ...] = ()
    receipts: bool = True

    def __post_init__(self) -> None:
        for origin in self.embed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"page.embed_origins: {origin!r} is not an origin; "
                    "write it like https://shop.example, without a path"
                )


@dataclass(frozen=True, slots=True)
class Storage:
    """Where conversations are kept; empty: conversations.db beside bot.toml.

    `redact_names` takes names and addresses out of what is stored: `auto` (where the extra `pii`
    is installed), `on` or `off`.
    """

    url: str = ""
    redact_names: str = "auto"

    def __post_init__(self) -> None:
        if self.redact_names not in {"auto", "on", "off"}:
            raise ConfigError(
                f"storage.redact_names must be auto, on or off, not {self.redact_names!r}"
            )


@dataclass(frozen=True, slots=True)
class Guards:
    """Guards that are switched off by name, and what a person in distress is told."""

    off: tuple[str, ...] = ()
    help_line: str = ""
    help_line_zh: str = ""


@dataclass(frozen=True, slots=True)
class Finetune:
    """Training of an adapter on this FAQ (`build --finetune`); time in minutes."""

    method: str = "lora"
    rank: int = 16
    epochs: float = 1.0
    learning_rate: float = 3e-4
    rows: int = 1200
    minutes: float = 14.0
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Skills:
    """The skills a bot uses, by name; `settings` are their tables, free in form."""

    use: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BotConfig:
    """A whole bot.toml."""

    bot: Bot = field(default_factory=Bot)
    retrieval: Retrieval = field(default_factory=Retrieval)
    routing: Routing = field(default_factory=Routing)
    generation: Generation = field(default_factory=Generation)
    handoff: Handoff = field(default_factory=Handoff)
    page: Page = field(default_factory=Page)
    storage: Storage = field(default_factory=Storage)
    guards: Guards = field(default_factory=Guards)
    finetune: Finetune = field(default_factory=Finetune)
    skills: Skills = field(default_factory=Skills)


def _check_webhook(address: str) -> None:
    """An http(s) address without a user; it is not repeated, since it may hold a secret."""
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not address.isascii() or re.search(r"[\s\x00-\x1f\x7f]", address):
        raise ConfigError("handoff.webhook must be an address such as https://desk.example/hook")
    if parts.username or parts.password:
        raise ConfigError(
            "handoff.webhook must hold no user or password; "
            "requests are signed with FEATHERDESK_HANDOFF_SECRET"
        )

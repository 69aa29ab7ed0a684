"""bot.toml: one frozen dataclass a stage; flag beats environment beats file beats default.

An environment variable is named FEATHERDESK_SECTION_KEY. Unknown sections and keys are errors
that name the closest known one. Knows nothing of what the stages do with their settings.
"""

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from .errors import ConfigError, InputError

__all__ = ["BotConfig", "load_config", "write_config"]


@dataclass(frozen=True, slots=True)
class Bot:
    """Name and FAQ files, relative to bot.toml."""

    name: str = "bot"
    faq: tuple[str, ...] = ()
    language: str = "auto"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """`encoder` is `auto` (English: MiniLM, else multilingual) or a catalogue id.

    `reranker` reads the best few entries together with the question: `auto` (where a FAQ has
    English entries), `none` or a catalogue id.
    """

    encoder: str = "auto"
    reranker: str = "auto"


@dataclass(frozen=True, slots=True)
class Generation:
    """The generator: base model and adapter by catalogue id or folder; times in seconds."""

    base: str = "smollm2-135m-instruct"
    adapter: str = "grounded"
    writes: tuple[str, ...] = ("en",)
    max_tokens: int = 192
    timeout: float = 30.0
    threads: int = 0
    refusal: float = -1.0

    def __post_init__(self) -> None:
        if not 8 <= self.max_tokens <= 1024:
            raise ConfigError(f"generation.max_tokens must be 8 to 1024, not {self.max_tokens}")
        if self.timeout <= 0:
            raise ConfigError(f"generation.timeout must be above 0 s, not {self.timeout}")
        if self.threads < 0:
            raise ConfigError(f"generation.threads must be 0 (all cores) or more: {self.threads}")


@dataclass(frozen=True, slots=True)
class Handoff:
    """How a customer reaches a person."""

    email: str = ""
    url: str = ""
    phone: str = ""
    hours: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What the chat page shows; an empty title is the bot's name."""

    title: str = ""
    greeting: str = ""
    suggestions: tuple[str, ...] = ()


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
class BotConfig:
    """A whole bot.toml."""

    bot: Bot = field(default_factory=Bot)
    retrieval: Retrieval = field(default_factory=Retrieval)
    generation: Generation = field(default_factory=Generation)
    handoff: Handoff = field(default_factory=Handoff)
    page: Page = field(default_factory=Page)
    storage: Storage = field(default_factory=Storage)
    guards: Guards = field(default_factory=Guards)
    finetune: Finetune = field(default_factory=Finetune)


def load_config(
    path: Path,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> BotConfig:
    """Read bot.toml; `flags` maps `section.key` to values given on the command line.

    Raises:
        InputError: the file is missing or not TOML.
        ConfigError: a section, key or value is wrong.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            path, "no such file; `featherdesk init NAME --faq FILE` makes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"not valid TOML: {error}") from None
    environment = os.environ if environment is None else environment
    stages: dict[str, Any] = {}
    known = {item.name: item for item in fields(BotConfig)}
    for section in data:
        if section not in known:
            raise ConfigError(f"{path}: unknown section [{section}]{_closest(section, known)}")
    hints = get_type_hints(BotConfig)
    for section in known:
        given = data.get(section, {})
        if not isinstance(given, dict):
            raise ConfigError(f"{path}: [{section}] must be a section")
        stages[section] = _stage(path, section, hints[section], given, environment, flags or {})
    return BotConfig(**stages)


def _stage(
    path: Path,
    section: str,
    kind: type,
    given: dict[str, Any],
    environment: Mapping[str, str],
    flags: Mapping[str, object],
) -> Any:
    hints = get_type_hints(kind)
    for key in given:
        if key not in hints:
            raise ConfigError(f"{path}: unknown key {section}.{key}{_closest(key, hints)}")
    values: dict[str, Any] = {}
    for key, hint in hints.items():
        name = f"FEATHERDESK_{section}_{key}".upper()
        where = f"{path}: {section}.{key}"
        if f"{section}.{key}" in flags:
            values[key] = flags[f"{section}.{key}"]
        elif name in environment:
            values[key] = _parsed(f"{name}", environment[name], hint)
        elif key in given:
            values[key] = _checked(where, given[key], hint)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _checked(where: str, value: object, hint: Any) -> object:
    if get_origin(hint) is tuple:
        value = [value] if isinstance(value, str) else value
        inner = get_args(hint)[0]
        if not isinstance(value, list) or not all(isinstance(item, inner) for item in value):
            raise ConfigError(f"{where} must be a list of texts")
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be a {hint.__name__}, not {value!r}")
    return value


def _parsed(where: str, text: str, hint: Any) -> object:
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint is bool:
        return text.lower() in {"1", "true", "yes", "on"}
    try:
        return hint(text)
    except ValueError:
        raise ConfigError(f"{where} must be a {hint.__name__}, not {text!r}") from None


def _closest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"; did you mean {near[0]!r}?" if near else ""


def write_config(path: Path, name: str, faq: str) -> None:
    """Write a commented bot.toml for a new bot."""
    lines = [
        "# Every key has a default that works; what stands here is what people change first.",
        "[bot]",
        f"name = {_quoted(name)}",
        f"faq = [{_quoted(faq)}]",
        "",
        "[handoff]",
        '# email = "help@example.com"',
        '# hours = "Mon-Fri 9:00-17:00"',
        "",
        "[page]",
        '# suggestions = ["How long does delivery take?"]',
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def as_dict(config: BotConfig) -> dict[str, Any]:
    """The configuration as nested dictionaries."""
    return dataclasses.asdict(config)

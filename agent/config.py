"""Reads and writes bot.toml; flag beats environment beats file beats default.

An environment variable is named FEATHERDESK_SECTION_KEY. Unknown sections and keys are errors
that name the closest known one. Knows nothing of what the stages do with their settings.
"""

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from .errors import ConfigError, InputError
from .stages import BotConfig, Skills

__all__ = ["BotConfig", "load_config", "write_config"]


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
        if section == "skills":
            stages[section] = _skills(path, given, environment, flags or {})
            continue
        stages[section] = _stage(path, section, hints[section], given, environment, flags or {})
    return BotConfig(**stages)


@dataclass(frozen=True, slots=True)
class _Used:
    use: tuple[str, ...] = ()


def _skills(
    path: Path,
    given: dict[str, Any],
    environment: Mapping[str, str],
    flags: Mapping[str, object],
) -> Skills:
    """The list of skills, checked like any key, and a free table for each."""
    tables = {name: dict(table) for name, table in given.items() if isinstance(table, dict)}
    listed = {key: value for key, value in given.items() if key not in tables}
    use = _stage(path, "skills", _Used, listed, environment, flags).use
    for name in tables:
        if name not in use:
            near = _closest(name, dict.fromkeys(use))
            raise ConfigError(
                f"{path}: [skills.{name}] is not in skills.use{near}; add it there or drop it"
            )
    for name in use:
        tables.setdefault(name, {}).update(_from_environment(name, use, environment))
    return Skills(use, tables)


def _from_environment(
    name: str, use: tuple[str, ...], environment: Mapping[str, str]
) -> dict[str, str]:
    """Settings of a skill given as FEATHERDESK_SKILLS_NAME_KEY, where no longer name fits."""
    start = _variable(name)
    longer = tuple(_variable(other) for other in use if _variable(other).startswith(start))
    return {
        key.removeprefix(start).lower(): value
        for key, value in environment.items()
        if key.startswith(start) and not key.startswith(tuple(n for n in longer if n != start))
    }


def _variable(skill: str) -> str:
    return f"FEATHERDESK_SKILLS_{skill}_".upper().replace("-", "_")


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
        '# webhook = "https://desk.example/hook"',
        "",
        "[page]",
        '# suggestions = ["How long does delivery take?"]',
        '# embed_origins = ["https://shop.example"]',
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def as_dict(config: BotConfig) -> dict[str, Any]:
    """The configuration as nested dictionaries."""
    return dataclasses.asdict(config)

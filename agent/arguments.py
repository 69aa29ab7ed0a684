"""A skill's parameters: the part of JSON schema a skill may use, and the check of arguments.

An object of string, integer, number and boolean properties with enum, pattern, format (date,
email), minimum, maximum, minLength, maxLength, default and title; of our own x-ask, x-words,
x-private and x-timezone (docs/skills.md). Knows nothing of how arguments are found.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["EMAIL", "LANGUAGES", "Parameter", "parameters_of", "problems"]

LANGUAGES = ("en", "zh")
EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_FORMATS = frozenset({"date", "email"})
_KEYS = frozenset(
    {
        *("type", "title", "description", "enum", "pattern", "format", "minimum", "maximum"),
        *("minLength", "maxLength", "default", "x-ask", "x-words", "x-private", "x-timezone"),
    }
)
_OBJECT = frozenset(
    {"$schema", "type", "title", "properties", "required", "additionalProperties", "x-confirm"}
)
_MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Parameter:
    """One property of a skill's schema."""

    name: str
    schema: Mapping[str, Any]
    required: bool = False

    @property
    def kind(self) -> str:
        """`string`, `integer`, `number` or `boolean`."""
        return str(self.schema["type"])

    @property
    def private(self) -> bool:
        """Whether its value is masked in stored conversations and so is asked for last."""
        return bool(self.schema.get("x-private")) or self.schema.get("format") == "email"

    @property
    def title(self) -> str:
        """What it is called where it has no question of its own."""
        return str(self.schema.get("title") or self.name.replace("_", " "))

    def problem(self, value: object) -> str:
        """What is wrong with a value; empty when nothing is."""
        if not isinstance(value, _TYPES[self.kind]) or (
            isinstance(value, bool) and self.kind != "boolean"
        ):
            return f"{self.name} must be of type {self.kind}"
        if "enum" in self.schema and value not in self.schema["enum"]:
            return f"{self.name} must be one of {self.schema['enum']}"
        return self._text(value) if isinstance(value, str) else self._range(value)

    def _text(self, value: str) -> str:
        low = self.schema.get("minLength", 0)
        high = self.schema.get("maxLength", _MAX_LENGTH)
        if not low <= len(value) <= high:
            return f"{self.name} must have {low} to {high} characters"
        pattern = self.schema.get("pattern")
        if pattern and not re.search(pattern, value):
            return f"{self.name} does not match its pattern"
        form = self.schema.get("format")
        if form == "email" and not re.fullmatch(EMAIL, value):
            return f"{self.name} is not an e-mail address"
        return f"{self.name} is not a date" if form == "date" and not _is_date(value) else ""

    def _range(self, value: object) -> str:
        low, high = self.schema.get("minimum"), self.schema.get("maximum")
        assert isinstance(value, int | float)
        if (low is not None and value < low) or (high is not None and value > high):
            return f"{self.name} must be {low} to {high}"
        return ""


def parameters_of(schema: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The parameters that a skill's schema declares.

    Raises:
        ValueError: it is no schema of the supported kind; the message says where.
    """
    properties, required = schema.get("properties", {}), schema.get("required", ())
    if schema.get("type") != "object" or not isinstance(properties, Mapping):
        raise ValueError('parameters must be {"type": "object", "properties": {...}}')
    _known("parameters", schema, _OBJECT)
    _texts("x-confirm", schema.get("x-confirm"))
    for name in required:
        if name not in properties:
            raise ValueError(f"required names {name!r}, which is no property")
    for name, told in properties.items():
        _check(name, told)
    return tuple(Parameter(name, told, name in required) for name, told in properties.items())


def problems(parameters: Sequence[Parameter], arguments: Mapping[str, object]) -> list[str]:
    """What is wrong with a skill's arguments; empty when nothing is."""
    names = {parameter.name for parameter in parameters}
    found = [f"{name} is no parameter" for name in arguments if name not in names]
    for parameter in parameters:
        if parameter.name in arguments:
            found.append(parameter.problem(arguments[parameter.name]))
        elif parameter.required:
            found.append(f"{parameter.name} is missing")
    return [problem for problem in found if problem]


def _check(name: str, told: object) -> None:
    """Raise ValueError where a property is not of the supported kind."""
    if not isinstance(told, Mapping) or told.get("type") not in tuple(_TYPES):
        raise ValueError(f"property {name!r} needs a type: one of {', '.join(_TYPES)}")
    _known(f"property {name!r}", told, _KEYS)
    _texts(f"{name}.x-ask", told.get("x-ask"))
    if told.get("format", "date") not in _FORMATS:
        raise ValueError(f"property {name!r}: format must be one of {', '.join(sorted(_FORMATS))}")
    if "enum" in told and (not isinstance(told["enum"], list | tuple) or not told["enum"]):
        raise ValueError(f"property {name!r}: enum must be a list of values")
    words = told.get("x-words", {})
    if not isinstance(words, Mapping) or not set(words) <= {str(v) for v in told.get("enum", ())}:
        raise ValueError(f"property {name!r}: x-words must map values of its enum to words")
    for key in ("minimum", "maximum", "minLength", "maxLength"):
        if not isinstance(told.get(key, 0), int | float):
            raise ValueError(f"property {name!r}: {key} must be a number")
    try:
        re.compile(told.get("pattern", ""))
        ZoneInfo(told.get("x-timezone", "UTC"))
    except (re.error, ZoneInfoNotFoundError, TypeError, ValueError) as error:
        raise ValueError(f"property {name!r}: {error}") from None
    if "default" in told and (wrong := Parameter(name, told).problem(told["default"])):
        raise ValueError(f"property {name!r}: its default does not fit: {wrong}")


def _known(where: str, told: Mapping[str, Any], keys: frozenset[str]) -> None:
    for key in told:
        if key not in keys:
            raise ValueError(f"{where}: {key!r} is not supported; known: {', '.join(sorted(keys))}")


def _texts(where: str, told: object) -> None:
    if told is not None and not (
        isinstance(told, Mapping)
        and told.get("en")
        and all(isinstance(text, str) for text in told.values())
    ):
        raise ValueError(f'{where} must be {{"en": "...", "zh": "..."}}')


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False

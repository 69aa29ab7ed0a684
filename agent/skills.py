"""What a skill is: something the bot can do, declared so that a person can judge it.

This is what a plugin imports. Knows nothing of how skills are found, loaded or called.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from .errors import ConfigError

__all__ = ["Risk", "Skill", "SkillResult", "take"]


class Risk(StrEnum):
    """What a skill can do: read, change something, or spend or give money."""

    READ = "read"
    WRITE = "write"
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class SkillResult:
    """What a skill says, and its data for programs (anything JSON holds).

    `texts` say the same in other languages, by their code. `again` tells that nothing was found
    for these arguments: the customer reads the text and is asked for them anew.
    """

    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    again: bool = False


class Skill(Protocol):
    """Something the bot can do.

    `parameters` is a JSON schema, `timeout` in seconds, `examples` are questions that call it.
    A skill that writes or handles money is confirmed whatever `confirm` says.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def risk(self) -> Risk: ...
    @property
    def timeout(self) -> float: ...
    @property
    def confirm(self) -> bool: ...
    @property
    def examples(self) -> Sequence[str]: ...

    def run(self, arguments: Mapping[str, Any]) -> SkillResult:
        """Do it. The arguments fit the schema; every required one is there."""
        ...


def take(settings: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """A skill's settings, if it knows all of them (`folder` always is).

    Raises:
        ConfigError: it does not; the message names the closest that it knows.
    """
    for key in settings:
        if key not in (*known, "folder"):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise ConfigError(
                f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return dict(settings)

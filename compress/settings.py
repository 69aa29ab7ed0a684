"""Checks that the settings of many steps need, each with a message that names the setting.

Knows nothing of any one step, and imports no torch: recipes are read without it.
"""

from collections.abc import Collection

from ..agent.errors import ConfigError

__all__ = ["at_least", "fewer", "one_of"]


def at_least(least: int, **settings: int) -> None:
    """Raise a ConfigError for the first setting below `least`."""
    for name, value in settings.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, not {value}")


def one_of(allowed: Collection[object], **settings: object) -> None:
    """Raise a ConfigError for the first setting that is none of `allowed`."""
    for name, value in settings.items():
        if value not in allowed:
            shown = ", ".join(str(one) or '""' for one in allowed)
            raise ConfigError(f"{name} must be one of {shown}, not {value!r}")


def fewer(step: str, kept: int, there: int, what: str) -> None:
    """Raise a ConfigError unless a step that keeps `kept` of `there` takes some away."""
    if kept >= there:
        raise ConfigError(
            f"{step}: asks to keep {kept} {what}, the model has {there}; ask for fewer, or leave "
            "the step out"
        )

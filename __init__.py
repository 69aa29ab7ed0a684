"""Featherdesk: give it your FAQ, get a chat page; compress it, and keep the answers.

The public names load lazily, so that `import featherdesk` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PUBLIC = {
    "Agent": "agent.engine",
    "Citation": "agent.types",
    "Entry": "agent.types",
    "Match": "agent.types",
    "Reply": "agent.types",
    "Route": "agent.types",
    "Turn": "agent.types",
    "FeatherdeskError": "agent.errors",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from .agent.engine import Agent
    from .agent.errors import FeatherdeskError
    from .agent.types import Citation, Entry, Match, Reply, Route, Turn


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)

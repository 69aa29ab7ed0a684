"""Finds plugins by entry point and refuses two of one name. Our own parts register the same way."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from .errors import PluginError

__all__ = ["GROUPS", "Plugin", "load", "plugins"]

GROUPS = tuple(
    f"featherdesk.{name}"
    for name in ("commands", "readers", "encoders", "skills", "steps", "guards")
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A registered part: its group, name, owner (the distribution) and place in the code."""

    group: str
    name: str
    owner: str
    value: str


def _found(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise PluginError(
                f"two plugins are called {point.name!r} in {group}: {_owner(other)} and "
                f"{_owner(point)}; uninstall one"
            )
        found[point.name] = point
    return found


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def plugins() -> list[Plugin]:
    """Every registered plugin, by group and name."""
    return [
        Plugin(group, name, _owner(point), point.value)
        for group in GROUPS
        for name, point in sorted(_found(group).items())
    ]


def load(group: str, name: str) -> object:
    """The object behind a plugin's name.

    Raises:
        PluginError: there is none, or importing it fails.
    """
    found = _found(group)
    if name not in found:
        raise PluginError(f"no plugin {name!r} in {group}")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"plugin {name!r} of {_owner(found[name])} does not load: {error}"
        ) from error

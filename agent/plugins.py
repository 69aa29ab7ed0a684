"""Finds plugins by entry point and refuses two of one name. Our own parts register the same way."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from .errors import FeatherdeskError, PluginError

__all__ = ["GROUPS", "Plugin", "load", "plugins"]

GROUPS = tuple(
    f"featherdesk.{name}"
    for name in ("commands", "readers", "encoders", "skills", "steps", "guards")
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A registered part: group, name, owner (the distribution), place in the code, version."""

    group: str
    name: str
    owner: str
    value: str
    version: str = ""

    @property
    def kind(self) -> str:
        """What it is: the last word of its group, in the singular."""
        return self.group.rpartition(".")[2].removesuffix("s")


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
        Plugin(group, name, _owner(point), point.value, point.dist.version if point.dist else "")
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
    except FeatherdeskError:
        raise
    except (Exception, SystemExit) as error:  # importing runs somebody else's code
        raise PluginError(
            f"plugin {name!r} of {_owner(found[name])} does not load: {error}"
        ) from error

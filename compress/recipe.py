"""Recipes: a TOML file that lists the steps of a compression, each with its settings.

Steps are found by entry point (`featherdesk.steps`), so that others can add theirs. A model that
was pruned and not healed afterwards is not a result: such a recipe is refused.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin

from ..agent.errors import ConfigError
from ..agent.plugins import load, plugins
from .steps import Step

__all__ = ["Margins", "Recipe", "load_recipe", "recipes_root", "shipped"]


@dataclass(frozen=True, slots=True)
class Margins:
    """What the gate allows, in percentage points: the upper bound of a loss, its estimate, and
    how much the share of fall-backs may rise."""

    loss: float = 2.0
    estimate: float = 1.0
    fallback: float = 2.0

    @property
    def wider(self) -> bool:
        """Whether one of them allows more than the default does."""
        return any(
            told > usual for told, usual in zip(astuple(self), astuple(Margins()), strict=True)
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Named steps in order."""

    name: str
    about: str
    steps: tuple[tuple[str, Step], ...]
    margins: Margins = field(default_factory=Margins)


def recipes_root() -> Path:
    """The folder of the recipes that ship with the package."""
    return Path(str(files(__package__.rpartition(".")[0]) / "models" / "recipes"))


def shipped() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in recipes_root().glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """A recipe by path, or one that ships by name.

    Raises:
        ConfigError: it is missing, not TOML, or names a step, a setting or an order that cannot be.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path = recipes_root() / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"no recipe {name!r}: neither a file nor one of {', '.join(shipped())}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    _known(data, ("name", "about", "steps", "gate"), str(path))
    told = data.get("steps")
    if not isinstance(told, list) or not told:
        raise ConfigError(f'{path}: has no [[steps]]; add at least one with `use = "export"`')
    steps = tuple(_step(item, f"{path}: step {n}") for n, item in enumerate(told, start=1))
    _check_order(steps, path)
    margins = _made(Margins, data.get("gate", {}), f"{path}: [gate]")
    return Recipe(str(data.get("name", path.stem)), str(data.get("about", "")), steps, margins)


def _step(item: Mapping[str, Any], where: str) -> tuple[str, Step]:
    if not isinstance(item, dict) or not isinstance(item.get("use"), str):
        raise ConfigError(f'{where}: needs `use = "..."`, the name of a step')
    name = item["use"]
    known = [p.name for p in plugins() if p.group == "featherdesk.steps"]
    if name not in known:
        raise ConfigError(f"{where}: no step {name!r}{_closest(name, known)}")
    settings = {key: value for key, value in item.items() if key != "use"}
    return name, _made(load("featherdesk.steps", name), settings, f"{where} ({name})")


def _made(kind: Any, settings: Any, where: str) -> Any:
    """A dataclass from a TOML table; unknown keys name the closest known one."""
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: must be a table")
    allowed = {item.name: item for item in fields(kind)}
    _known(settings, tuple(allowed), where)
    given = {
        name: _typed(value, allowed[name].type, f"{where}: {name}")
        for name, value in settings.items()
    }
    try:
        return kind(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except TypeError as error:
        raise ConfigError(f"{where}: a setting is missing: {error}") from None


def _typed(value: Any, wanted: Any, what: str) -> Any:
    """A value of a TOML file as its setting keeps it: whole numbers as float, lists as tuples."""
    if get_origin(wanted) is tuple and get_args(wanted)[1:] == (...,):
        if not isinstance(value, list):
            raise ConfigError(f"{what} must be a list, not {type(value).__name__}")
        item = get_args(wanted)[0]
        return tuple(_typed(one, item, f"{what}, item {n}") for n, one in enumerate(value, start=1))
    if wanted is float and type(value) is int:
        return float(value)
    if isinstance(wanted, type) and (
        not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))
    ):
        raise ConfigError(f"{what} must be {wanted.__name__}, not {type(value).__name__}")
    return tuple(value) if isinstance(value, list) else value


def _known(told: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in told:
        if key not in allowed:
            raise ConfigError(f"{where}: unknown key {key!r}{_closest(key, allowed)}")


def _closest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _check_order(steps: tuple[tuple[str, Step], ...], path: Path) -> None:
    """Healing behind pruning, in the blocks of the export; the export last."""
    kinds = [step.kind for _, step in steps]
    last = kinds[-1]
    if last != "export" or "export" in kinds[:-1]:
        raise ConfigError(f"{path}: the last step, and only the last, must be an export")
    pruned = max((n for n, kind in enumerate(kinds) if kind == "prune"), default=-1)
    healed = max((n for n, kind in enumerate(kinds) if kind == "heal"), default=-1)
    if pruned > healed:
        raise ConfigError(
            f"{path}: step {pruned + 1} ({steps[pruned][0]}) prunes and nothing heals behind it; "
            'a pruned model is no result: add a step `use = "heal"`'
        )
    export = steps[-1][1]
    blocks = getattr(export, "block_size", 0) if getattr(export, "precision", "") == "int4" else 0
    for number, (name, step) in enumerate(steps, start=1):
        if blocks and getattr(step, "bits", 0) == 4 and getattr(step, "block_size", 0) != blocks:
            raise ConfigError(
                f"{path}: step {number} ({name}) learns to be rounded in blocks of "
                f"{getattr(step, 'block_size', 0)}, but the export rounds in blocks of {blocks}; "
                "give both the same block_size"
            )

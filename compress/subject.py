"""What is compressed: the generator of a bot, or any causal LM folder.

Finds the model, merges its adapter, and gathers the material to measure and heal it by. Knows
nothing of steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..agent.artifacts import Manifest, is_bot, sha256_of
from ..agent.catalog import adapters_root, local_folder
from ..agent.config import load_config
from ..agent.errors import ArtifactError, ConfigError
from ..agent.generators import WEIGHTS, adapter_folder, card, check_adapter
from .architecture import shape_of
from .assemble import assemble_base
from .material import Material, bot_material, load_material, shipped_material
from .model import merge
from .steps import identity_of
from .trial import entries_of, may_be_quoted

__all__ = ["Subject", "find_subject"]

ROWS = 9000
"""Rows of a bot's own questions: about 1.8 million tokens."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`parent` is the whole fp32 model folder; `bot` the bot folder that it serves, or None.

    `base` is the catalogue id or the folder that the parent was made from. `own` says whether
    reports may quote the material (see `may_be_quoted`).
    """

    parent: Path
    material: Material
    bot: Path | None = None
    base: str = ""
    own: bool = True


def find_subject(
    source: str,
    work: Path,
    *,
    adapter: str = "",
    calibration: Path | None = None,
    rows: int = ROWS,
    notify: Callable[[str], None] = lambda _: None,
) -> Subject:
    """The model behind a bot folder, a model folder or a catalogue id; merged into `work`.

    `calibration` names rows or texts to use instead of the bot's own questions.

    Raises:
        FeatherdeskError: it is neither, its architecture is not supported, or nothing is left to
            calibrate with.
    """
    folder = Path(source).expanduser()
    bot = folder if is_bot(folder) else None
    chosen = adapter_folder(adapter)
    base = source
    if bot is not None:
        manifest = Manifest.load(bot)
        if not manifest.writes:
            raise ArtifactError(f"{bot} writes in no language: it has no generator to compress")
        base = manifest.base
        chosen = chosen or _adapter_of(bot, manifest)
    elif folder.suffix == ".toml":
        raise ConfigError(f"{source} is a configuration; name the bot folder that build made of it")
    elif local_folder(source) is not None:
        shape_of(folder)
    parent = _merged(base, chosen, work, notify)
    shape_of(parent)
    if calibration is not None:
        material = load_material(calibration)
    elif bot is not None:
        material = bot_material(list(entries_of(bot).values()), rows)
    else:
        material = shipped_material(rows)
    places = [place for place in (calibration, bot) if place is not None]
    return Subject(parent, material, bot, base, may_be_quoted(*places))


def _adapter_of(bot: Path, manifest: Manifest) -> Path | None:
    """The adapter a bot was built with: beside its bot.toml, named in it, or one that ships."""
    if manifest.adapter == "none":
        return None
    beside = bot.resolve().parent / "adapter"
    if not manifest.adapter_sha256:  # of an earlier version
        named = (beside / WEIGHTS).exists() and card(beside).get("name") == manifest.adapter
        return beside if named else adapter_folder(manifest.adapter)
    given = Path(load_config(bot / "bot.toml").generation.adapter).expanduser()
    for place in (beside, given, adapters_root() / given.name, adapters_root() / manifest.adapter):
        weights = place / WEIGHTS
        if weights.exists() and sha256_of(weights) == manifest.adapter_sha256:
            return place
    raise ArtifactError(
        f"the adapter {manifest.adapter!r} that {bot} was built with is not there any more; name "
        "it with --adapter, or build the bot anew"
    )


def _merged(base: str, adapter: Path | None, work: Path, notify: Callable[[str], None]) -> Path:
    """The folder of base and adapter; kept in `work` between runs."""
    folder = assemble_base(base, notify)
    if adapter is None:
        return folder
    check_adapter(base, adapter)
    target = work / f"parent-{identity_of(folder)[:12]}-{identity_of(adapter)[:12]}"
    if not (target / "config.json").exists():
        notify(f"merging {adapter.name}")
        merge(folder, adapter, target)
    return target

"""Where a command may write: no source is lost, and nothing is replaced that is not ours.

Asked before any work starts; the folders themselves appear whole (`artifacts.atomic_folder`).
"""

from pathlib import Path

from .artifacts import Manifest
from .catalog import catalog
from .errors import ArtifactError, ConfigError

__all__ = [
    "BATCHES",
    "BENCH",
    "COMPRESSION",
    "JOURNAL",
    "PARITY",
    "check_apart",
    "check_destination",
]

PARITY = "parity.json"
"""In every exported folder: what was compared."""
COMPRESSION = "compression.json"
"""In every other model folder that a command leaves: the steps that made it."""
JOURNAL = "journal.jsonl"
"""In the folder of a plan, from its start."""
BENCH, BATCHES = "bench.json", "batches.json"
"""In the folder of a benchmark."""


def check_destination(out: Path, *sources: str | Path | None) -> None:
    """Whether `out` may become a folder of ours: absent, empty, or one of ours already.

    `sources` are what the command reads: paths, catalogue ids, or what was not given. `out` must
    not be one of them, lie inside one or hold one.

    Raises:
        ConfigError: it may not; the message says why.
    """
    check_apart(out, *sources)
    if out.exists() and not _replaceable(out):
        raise ConfigError(
            f"--out {out} is there and no folder that featherdesk wrote; name another place, or "
            "remove it yourself"
        )


def check_apart(out: Path, *sources: str | Path | None) -> None:
    """Whether `out` is another place than the current directory and all `sources`.

    Raises:
        ConfigError: it is, holds or lies in one of them.
    """
    place = out.resolve()
    if Path.cwd().is_relative_to(place):
        raise ConfigError(
            f"--out {out} is or holds the current directory; name a folder of its own"
        )
    for source in sources:
        read = _read(source)
        if read and (read.is_relative_to(place) or place.is_relative_to(read)):
            raise ConfigError(
                f"--out {out} would overwrite {source}, lie in it or hold it; name another place"
            )


def _read(source: str | Path | None) -> Path | None:
    if not source or source in catalog():
        return None
    return Path(source).expanduser().resolve()


def _replaceable(out: Path) -> bool:
    return out.is_dir() and (
        not any(out.iterdir())
        or any((out / name).is_file() for name in (PARITY, COMPRESSION, JOURNAL, BENCH, BATCHES))
        or _is_bot(out)
    )


def _is_bot(folder: Path) -> bool:
    try:
        Manifest.load(folder)
    except ArtifactError:
        return False
    return True

"""The bot folder: what compress writes and agent and serve read. Knows no model by heart.

manifest.json names every file with its sha256, verified on load; folders are replaced as a whole.
"""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ArtifactError, FeatherdeskError
from .swap import drop, hold, put, restore

__all__ = [
    "SCHEMA",
    "Manifest",
    "atomic_folder",
    "cache_root",
    "is_bot",
    "place",
    "seal",
    "sha256_of",
    "verify",
]

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bot folder is made of; `files` maps relative paths to sha256.

    The model's refusal is taken when its log-odds reach those of `refusal` plus `refusal_slope`
    times the log-odds of the router: the surer the router, the surer the model has to be. With
    `blocks` the model was trained to read every entry by itself, so that it can be read once.
    `adapter_sha256` is of the weights of the adapter, of which others may bear the name.
    """

    name: str
    base: str
    base_sha256: str
    adapter: str
    prompt_contract: str
    writes: tuple[str, ...]
    encoder: str
    entries: int
    languages: tuple[str, ...]
    refusal: float = 1.0
    refusal_slope: float = 0.0
    reranker: str = ""
    blocks: bool = False
    adapter_sha256: str = ""
    steps: tuple[dict[str, Any], ...] = ()
    gate: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read a bot folder's manifest.

        Raises:
            ArtifactError: it is missing, unreadable or of another schema.
        """
        path = folder / "manifest.json"
        restore(folder)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.get("schema") != SCHEMA:
                raise ArtifactError(
                    f"{path}: schema {data.get('schema')}, this version reads {SCHEMA}; build anew"
                )
            for key in ("writes", "languages", "steps"):
                data[key] = tuple(data[key])
            return cls(**data)
        except FileNotFoundError:
            raise ArtifactError(
                f"{folder} is not a bot folder: it has no manifest.json; "
                "`featherdesk build BOT.toml` makes one"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); build anew") from None


def is_bot(folder: Path) -> bool:
    """Whether a folder is one of a bot."""
    restore(folder)
    return (folder / "manifest.json").exists()


def sha256_of(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write manifest.json with the hashes of every file below `folder`; report/ may change."""
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in {"manifest.json", "report"}
    }
    sealed = replace(manifest, files=files)
    text = json.dumps(asdict(sealed), indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return sealed


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file with its hash, several at once.

    Raises:
        ArtifactError: a file is missing, changed, or outside the folder; the first of them.
    """
    root = folder.resolve()

    def look(name: str) -> None:
        path = (root / name).resolve()
        if not path.is_relative_to(root) and not (root / name).is_symlink():
            raise ArtifactError(f"{folder}: {name} points outside the bot folder")
        if not path.is_file():
            raise ArtifactError(f"{folder}: {name} is missing; build or copy the folder anew")
        if sha256_of(path) != manifest.files[name]:
            raise ArtifactError(f"{folder}: {name} was changed after the build; build anew")

    with ThreadPoolExecutor(thread_name_prefix="verifying") as pool:
        deque(pool.map(look, manifest.files), 0)


def cache_root() -> Path:
    """Where fetched and assembled models are kept: FEATHERDESK_HOME or the user's cache."""
    own = os.environ.get("FEATHERDESK_HOME")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featherdesk"


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well, else vanishes.

    Killed at any moment, it leaves the old folder or the new one; see `swap`.

    Raises:
        FeatherdeskError: the disk is full or the place cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = hold(target)
    except OSError as error:
        raise FeatherdeskError(
            f"{target} cannot be written: {error.strerror}; see to its permissions or choose "
            "another place"
        ) from None
    try:
        yield fresh
        put(fresh, target)
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        raise FeatherdeskError(
            f"{target} cannot be written: {error.strerror or error}{file}; free space, and run the "
            "same command again"
        ) from None
    finally:
        drop(fresh, target)


def place(source: Path, target: Path) -> None:
    """Put a file or folder at `target`: hard links where the disk allows, else copies."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for item in source.iterdir():
            place(item, target / item.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)

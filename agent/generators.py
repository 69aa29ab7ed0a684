"""Names generators and encoders by what goes into them and has missing ones made. Knows no torch.

Each is a base model and an adapter, merged and exported; it is made once, by the command
`featherdesk export` in a process of its own, and kept in the cache.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from .artifacts import cache_root, sha256_of
from .catalog import adapters_root, fetch, find, local_folder
from .errors import CatalogError, FeatherdeskError, MissingExtraError
from .prompt import contract_hash

__all__ = [
    "WEIGHTS",
    "adapter_folder",
    "card",
    "ensure_encoder",
    "ensure_generator",
    "fingerprint",
    "generator_folder",
]

Notify = Callable[[str], None]
RECIPE = "7"
WEIGHTS = "adapter_model.safetensors"
"""In the folder of an adapter."""


def adapter_folder(name: str) -> Path | None:
    """The folder of an adapter: a path, one that ships, or None for the empty name.

    Raises:
        CatalogError: there is no such adapter.
    """
    if not name:
        return None
    for folder in (Path(name).expanduser(), adapters_root() / name):
        if (folder / WEIGHTS).exists():
            return folder
    root = adapters_root()
    shipped = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    raise CatalogError(
        f"no adapter {name!r}; shipped: {', '.join(shipped) or 'none'}; "
        "or give the path of an adapter folder"
    )


def card(adapter: Path) -> dict[str, object]:
    """The machine-readable card of an adapter; empty when it has none."""
    path = adapter / "card.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def check_adapter(base: str, adapter: Path) -> None:
    """Refuse an adapter that was trained on another base or under another prompt.

    Raises:
        CatalogError: base hash or prompt contract differ.
    """
    told = card(adapter)
    if told.get("prompt_contract", contract_hash()) != contract_hash():
        raise CatalogError(f"{adapter} was trained under another prompt contract; train it anew")
    if told and local_folder(base) is None and told["base_sha256"] != find(base).sha256:
        raise CatalogError(
            f"{adapter.name} was trained on {told['base']}, not on {base}; choose its base or "
            "train another adapter"
        )


def fingerprint(base: str, adapter: Path | None) -> str:
    """Names a generator by base hash, adapter hash and export recipe."""
    given = local_folder(base)
    if given is not None:
        weights = sorted(given.glob("*.safetensors"))
        identity = " ".join(sha256_of(path) for path in weights)
    else:
        identity = find(base).sha256 or base
    learned = sha256_of(adapter / WEIGHTS) if adapter else "none"
    return hashlib.sha256(f"{identity} {learned} {RECIPE}".encode()).hexdigest()[:16]


def generator_folder(base: str, adapter: Path | None) -> Path:
    """Where the cache keeps a generator."""
    return cache_root() / "generators" / fingerprint(base, adapter)


def ensure_generator(base: str, adapter: Path | None, notify: Notify) -> Path:
    """The generator folder, made by a child process when it is not there yet.

    Raises:
        MissingExtraError: it must be made and torch is not installed.
        FeatherdeskError: making it failed.
    """
    if adapter is not None:
        check_adapter(base, adapter)
    target = generator_folder(base, adapter)
    if (target / "parity.json").exists():
        return target
    if find_spec("torch") is None:
        raise MissingExtraError("torch (needed once, to assemble the generator)", "train")
    notify("assembling the generator (once, one to three minutes)")
    run_featherdesk(
        ["export", base, "--out", str(target), *(["--adapter", str(adapter)] if adapter else [])]
    )
    return target


def ensure_encoder(identity: str, notify: Notify) -> Path:
    """The folder of an encoder: fetched, or made from its base and adapter in a child process.

    Raises:
        CatalogError: the id is unknown, or no source is reachable.
        MissingExtraError: it must be made and torch is not installed.
    """
    model = find(identity)
    if not model.base:
        return fetch(identity, notify)
    adapter = adapter_folder(model.adapter)
    if adapter is not None:
        check_adapter(model.base, adapter)
    target = cache_root() / "encoders" / fingerprint(model.base, adapter)
    if (target / "model.onnx").exists():
        return target
    if find_spec("torch") is None:
        raise MissingExtraError("torch (needed once, to assemble the encoder)", "train")
    notify("assembling the encoder (once, half a minute)")
    run_featherdesk(["export", model.base, "--out", str(target), "--adapter", str(adapter)])
    return target


def run_featherdesk(arguments: list[str]) -> None:
    """Run a featherdesk command in a child process; its progress goes to our stderr.

    Raises:
        FeatherdeskError: it failed; it has already said why.
    """
    command = [sys.executable, "-m", "featherdesk.agent.cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise FeatherdeskError(f"`featherdesk {arguments[0]}` did not finish (see above)")

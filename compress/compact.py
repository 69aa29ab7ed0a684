"""Stores a model folder's weights without their zeros and without repeats, bit for bit.

A matrix is written as it is, as its values with a bit mask, or, with at most two values in every
four, as these with 2-bit places (the layout of 2:4 sparse tensor cores); a tensor equal to an
earlier one is a reference to it. One file, `weights.compact`: safetensors whose metadata tells
each tensor's form. No library loads it as a model by mistake: `expand` writes the plain folder.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..agent.errors import CatalogError
from .model import write_atomically

__all__ = ["Sizes", "compact", "compact_bytes", "expand", "is_compact"]

_FILE = "weights.compact"
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the weights, plain and compact."""

    plain: int
    compact: int


def is_compact(folder: Path) -> bool:
    """Whether a folder holds weights in compact form."""
    return (folder / _FILE).is_file()


def compact(source: Path, out: Path) -> Sizes:
    """Write the model folder `source` as `out` with its weights in compact form.

    Raises:
        CatalogError: a weights file is damaged.
    """

    def write(folder: Path) -> None:
        tensors: dict[str, torch.Tensor] = {}
        forms: dict[str, dict[str, Any]] = {}
        seen: dict[str, str] = {}
        for name, tensor in _read(source):
            forms[name] = _pack(name, tensor, tensors, seen)
        save_file(tensors, folder / _FILE, {"tensors": json.dumps(forms)})
        _copy_rest(source, folder)

    write_atomically(out, write)
    return Sizes(_plain_bytes(source), (out / _FILE).stat().st_size)


def compact_bytes(folder: Path) -> Sizes:
    """What `compact` would write, without writing: payload only, a file's header not counted."""
    seen: dict[str, str] = {}
    total = 0
    for name, tensor in _read(folder):
        parts: dict[str, torch.Tensor] = {}
        _pack(name, tensor, parts, seen)
        total += sum(part.numel() * part.element_size() for part in parts.values())
    return Sizes(_plain_bytes(folder), total)


def expand(source: Path, out: Path) -> None:
    """Write a compact folder as one that transformers loads; every bit is as it was.

    Raises:
        CatalogError: there is no compact file, or it is damaged.
    """
    path = source / _FILE
    if not path.is_file():
        raise CatalogError(f"{source} holds no {_FILE}")

    def write(folder: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                forms = json.loads(file.metadata()["tensors"])
                parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tensors: dict[str, torch.Tensor] = {}
            for name, form in forms.items():
                same = form.get("same")
                tensors[name] = tensors[same].clone() if same else _unpack(name, form, parts)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CatalogError(f"{path} is damaged ({error}); copy or make it anew") from None
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        _copy_rest(source, folder)

    write_atomically(out, write)


def _read(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise CatalogError(f"{path} is damaged ({error}); fetch or save it anew") from None


def _copy_rest(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        weights = path.suffix in {".safetensors", ".compact"} or path.name.endswith(".index.json")
        if path.is_file() and not weights:
            shutil.copy2(path, folder / path.name)


def _plain_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _pack(
    name: str, tensor: torch.Tensor, parts: dict[str, torch.Tensor], seen: dict[str, str]
) -> dict[str, Any]:
    """Put a tensor's parts into `parts`; returns its form."""
    flat = tensor.contiguous()
    bits = flat.view(_WHOLE[flat.element_size()])  # -0.0 is a value, not a zero
    digest = sha256(bits.numpy().tobytes()).hexdigest() + str((flat.dtype, tuple(flat.shape)))
    if digest in seen:
        return {"same": seen[digest]}
    seen[digest] = name
    shape = list(flat.shape)
    there = bits.numpy() != 0
    count = int(there.sum())
    if flat.dim() != 2 or (there.size - count) * flat.element_size() * 8 <= there.size:
        parts[name] = flat
        return {"form": "plain"}
    if shape[1] % 4 == 0 and int(there.reshape(-1, 4).sum(1).max()) <= 2:
        fours = flat.reshape(-1, 4)
        places = _places(there.reshape(-1, 4))
        parts[f"{name}#values"] = fours.gather(1, torch.from_numpy(places)).contiguous()
        parts[f"{name}#places"] = torch.from_numpy(_two_bits(places.ravel()))
        return {"form": "2:4", "shape": shape}
    parts[f"{name}#values"] = flat[torch.from_numpy(there)].contiguous()
    parts[f"{name}#mask"] = torch.from_numpy(np.packbits(there.ravel()))
    return {"form": "mask", "shape": shape}


def _unpack(name: str, form: dict[str, Any], parts: dict[str, torch.Tensor]) -> torch.Tensor:
    if form["form"] == "plain":
        return parts[name]
    values = parts[f"{name}#values"]
    shape = form["shape"]
    out = torch.zeros(prod(shape), dtype=values.dtype)
    if form["form"] == "mask":
        mask = np.unpackbits(parts[f"{name}#mask"].numpy(), count=out.numel())
        out[torch.from_numpy(mask.astype(bool))] = values
    else:
        places = _from_two_bits(parts[f"{name}#places"].numpy(), values.numel())
        out = out.view(-1, 4).scatter_(1, torch.from_numpy(places).view(-1, 2), values)
    return out.view(shape)


def _places(there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Two places (0..3), ascending, in every four: all that are taken, and free ones to fill up."""
    order = np.argsort(~there, axis=1, kind="stable")[:, :2]
    return np.sort(order, axis=1).astype(np.int64)


def _two_bits(places: NDArray[np.int64]) -> NDArray[np.uint8]:
    padded = np.pad(places, (0, -len(places) % 4)).astype(np.uint8).reshape(-1, 4)
    packed = np.bitwise_or.reduce(padded << np.array([0, 2, 4, 6], np.uint8), axis=1)
    return np.asarray(packed, np.uint8)


def _from_two_bits(packed: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    spread = (packed[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return spread.ravel()[:count].astype(np.int64)

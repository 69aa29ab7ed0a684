"""Keys and values of text blocks, computed once and turned into place when they are needed.

A block sees only itself (block attention: Ma et al., arXiv 2409.15355; stored and turned: Lu et
al., "TurboRAG", arXiv 2410.07590), so what it leaves depends on its own tokens alone; the place is
a rotation (Su et al., "RoFormer", arXiv 2104.09864). They are kept in eight bits: keys with a scale
a channel, values with a scale a token (Liu et al., "KIVI", arXiv 2402.02750). Knows nothing of
sessions or of entries.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArtifactError

__all__ = ["ROTARY", "Block", "BlockStore", "Rotary", "block_key"]

Floats = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]
_TINY = 1e-12
ROTARY = "rotary.json"
"""In a generator folder: how it turns keys."""
_INDEX, _DATA = "blocks.json", "blocks.bin"


@dataclass(frozen=True, slots=True)
class Rotary:
    """The angles by which a model turns keys; `frequencies` has shape (layers, size / 2).

    A pair is made of the first and the second half of a head, or of neighbours (`interleaved`).
    """

    frequencies: Floats
    interleaved: bool = False

    @classmethod
    def load(cls, folder: Path) -> "Rotary | None":
        """Of a generator folder; None where it does not tell.

        Raises:
            ArtifactError: rotary.json is damaged.
        """
        path = folder / ROTARY
        if not path.exists():
            return None
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            kinds = {name: np.array(told["kinds"][name], np.float32) for name in told["kinds"]}
            return cls(np.stack([kinds[name] for name in told["layers"]]), told["interleaved"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); export the model again") from None

    def turn(self, keys: NDArray[Any], scales: Floats, offset: int, out: Numbers) -> None:
        """Write keys (layers, heads, n, size) times `scales`, moved `offset` places on, to `out`.

        No array of all the keys is made but for `out`: memory that is new costs more than a sum.
        """
        angles = (self.frequencies * np.float32(offset))[:, None, None, :]
        cos, sin = np.cos(angles), np.sin(angles)
        (first, second), (one, other), (a, b) = map(self._pairs, (keys, scales, out))
        np.multiply(first, one * cos, out=a)
        a -= second * (other * sin)
        np.multiply(first, one * sin, out=b)
        b += second * (other * cos)

    def _pairs(self, keys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The first and the second of every pair that turns."""
        if self.interleaved:
            return keys[..., 0::2], keys[..., 1::2]
        half = keys.shape[-1] // 2
        return keys[..., :half], keys[..., half:]


@dataclass(frozen=True, slots=True)
class Block:
    """Keys and values of n tokens from place 0 on: bytes (layers, heads, n, size) with scales,
    (layers, heads, 1, size) for keys and (layers, heads, n, 1) for values."""

    keys: NDArray[np.int8]
    values: NDArray[np.int8]
    key_scales: Floats
    value_scales: Floats

    @classmethod
    def of(cls, keys: Floats, values: Floats) -> "Block":
        """From floats (layers, heads, n, size)."""
        key_scales, value_scales = _scales(keys, 2), _scales(values, 3)
        return cls(
            np.rint(keys / key_scales).astype(np.int8),
            np.rint(values / value_scales).astype(np.int8),
            key_scales,
            value_scales,
        )

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return self.size_of(self.keys.shape[2])

    def size_of(self, tokens: int) -> int:
        """Bytes that a block of so many tokens takes beside it, of the same model."""
        layers, heads, _, size = self.keys.shape
        return int(layers * heads * (2 * tokens * size + 4 * size + 4 * tokens))

    @property
    def parts(self) -> tuple[NDArray[np.generic], ...]:
        """The arrays in the order they are kept in."""
        return (self.keys, self.values, self.key_scales, self.value_scales)

    def put(self, rotary: Rotary, offset: int, keys: Numbers, values: Numbers) -> None:
        """Write floats (layers, heads, n, size): keys turned to begin at `offset`, and values."""
        rotary.turn(self.keys, self.key_scales, offset, keys)
        np.multiply(self.values, self.value_scales, out=values)


def _scales(values: Floats, axis: int) -> Floats:
    largest = np.abs(values).max(axis=axis, keepdims=True)
    return np.asarray(np.maximum(largest, _TINY) / 127, np.float32)


def block_key(ids: Sequence[int]) -> str:
    """Names a block by its tokens."""
    return hashlib.sha256(np.asarray(ids, np.int32).tobytes()).hexdigest()[:32]


class BlockStore:
    """Blocks by name: those of a folder, mapped from the disk, and those asked for since.

    `budget` is in bytes and counts both; what was not asked for longest goes first, the folder's
    stay. Threads may share it. `hits` and `misses` count what was asked for.
    """

    def __init__(self, budget: int, folder: Path | None = None) -> None:
        self._mapped = _mapped(folder) if folder else {}
        self._kept: OrderedDict[str, Block] = OrderedDict()
        self._left = budget - sum(block.size for block in self._mapped.values())
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._mapped) + len(self._kept)

    def get(self, key: str) -> Block | None:
        """A block, or None."""
        with self._lock:
            found = self._mapped.get(key) or self._kept.get(key)
            if key in self._kept:
                self._kept.move_to_end(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def add(self, key: str, block: Block) -> None:
        """Keep a block as long as there is room for it."""
        with self._lock:
            if key in self._mapped or key in self._kept:
                return
            self._kept[key] = block
            self._left -= block.size
            while self._left < 0 and self._kept:
                _, gone = self._kept.popitem(last=False)
                self._left += gone.size

    @staticmethod
    def write(folder: Path, blocks: Iterable[tuple[str, Block]]) -> int:
        """Write blocks for `BlockStore(budget, folder)`; returns their bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        index, place = {}, 0
        with (folder / _DATA).open("wb") as file:
            for key, block in blocks:
                shape = list(block.keys.shape)
                index[key] = {"at": place, "shape": shape}
                for part in block.parts:
                    file.write(np.ascontiguousarray(part).tobytes())
                    place += part.nbytes
        (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        return place


def _mapped(folder: Path) -> dict[str, Block]:
    """The blocks of a folder; pages are read when they are used.

    Raises:
        ArtifactError: the folder is damaged.
    """
    path = folder / _INDEX
    if not path.exists():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not index:
            return {}
        raw = np.memmap(folder / _DATA, np.uint8, "r")
        return {key: _block(raw, int(one["at"]), one["shape"]) for key, one in index.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} is damaged ({error}); build the bot anew") from None


def _block(raw: NDArray[np.uint8], place: int, shape: Sequence[int]) -> Block:
    layers, heads, n, size = shape
    kinds: list[tuple[type[np.generic], tuple[int, ...]]] = [
        (np.int8, (layers, heads, n, size)),
        (np.int8, (layers, heads, n, size)),
        (np.float32, (layers, heads, 1, size)),
        (np.float32, (layers, heads, n, 1)),
    ]
    parts = []
    for kind, told in kinds:
        length = int(np.prod(told)) * np.dtype(kind).itemsize
        parts.append(raw[place : place + length].view(kind).reshape(told))
        place += length
    return Block(*parts)

"""Weights of a generator for many tokens at once: bytes by output channel or in long blocks.

onnxruntime's int4 kernels unpack their weights anew for every few tokens; a product of bytes reads
them as they are, where the processor sums products of bytes (VNNI). So a generator folder may hold
a second graph, `wide.onnx`, over the same `model.onnx.data`; its weights are made here when it is
opened. Knows nothing of sessions.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArtifactError

__all__ = [
    "DATA",
    "RAGGED",
    "SLOTS",
    "TABLE",
    "WIDE",
    "dequantized",
    "restored_from",
    "sums_bytes",
    "widened",
]

WIDE = "wide.onnx"
RAGGED = "ragged.onnx"
"""The same for a ragged batch: one row of the tokens of several customers, `SLOTS` of them."""

SLOTS = 8
"""Customers in a ragged batch; graphs that were exported have as many."""
TABLE = "wide.json"
DATA = "model.onnx.data"
_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
_MOST = 127
_MIDDLE = np.uint8(128)


def sums_bytes() -> bool:
    """Whether this processor has the instructions that make it pay."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return not _FLAGS.isdisjoint(told.split())


def widened(folder: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and values of what `wide.onnx` lacks: `X/bytes` (inputs, outputs) with `X/steps`
    (outputs), and `X/blocks` (outputs, blocks, length) with `X/scales` (outputs, blocks).

    Raises:
        ArtifactError: the folder is damaged.
    """
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        data = np.memmap(folder / DATA, np.uint8, "r")
        if data.size != table["of"]:
            raise ValueError(f"{TABLE} belongs to another {DATA}")
        for told in table["matrices"]:
            weight = restored_from(data, told)
            taken = np.frombuffer(base64.b64decode(told["taken"]), np.int8).astype(np.int32)
            levels, steps = _in_bytes(np.ldexp(weight, taken))
            yield f"{told['name']}/bytes", np.ascontiguousarray(levels.T)
            yield f"{told['name']}/steps", steps
        for told in table.get("blocks", ()):  # folders of an earlier recipe have none
            weight, size = restored_from(data, told), told["longer"]
            filled = np.pad(weight, ((0, 0), (0, -told["columns"] % size)))
            levels, scales = _in_bytes(filled.reshape(-1, size))
            shape = told["rows"], filled.shape[1] // size
            yield f"{told['name']}/blocks", (levels.view(np.uint8) + _MIDDLE).reshape(*shape, size)
            yield f"{told['name']}/scales", scales.reshape(shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} is not a generator folder: {error}") from None


def _in_bytes(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix (outputs, inputs) as bytes and a step an output; uses its memory."""
    steps = np.maximum(np.abs(weight).max(1), np.float32(1e-12)) / np.float32(_MOST)
    weight /= steps[:, None]
    np.rint(weight, out=weight)
    return weight.astype(np.int8), steps


def restored_from(data: NDArray[np.uint8], told: dict[str, Any]) -> NDArray[np.float32]:
    """A matrix (outputs, inputs) from its blocks, as MatMulNBits reads them."""

    def part(name: str) -> NDArray[np.uint8]:
        start, length = told[name]
        return data[start : start + length]

    rows, columns, size, bits = (told[name] for name in ("rows", "columns", "block", "bits"))
    count = -(-columns // size)
    return dequantized(
        part("blocks").reshape(rows, count, -1),
        part("scales").view(np.float32).reshape(rows, count),
        part("zeros").reshape(rows, -1) if "zeros" in told else None,
        columns,
        bits,
    )


def dequantized(
    packed: NDArray[np.uint8],
    scales: NDArray[np.float32],
    zeros: NDArray[np.uint8] | None,
    columns: int,
    bits: int,
) -> NDArray[np.float32]:
    """The matrix (rows, columns) that blocks stand for: packed (rows, blocks, bytes), scales (rows,
    blocks), zeros (rows, bytes) or None where the middle value stands for zero."""
    rows, count, wide = packed.shape
    levels = _unpacked(packed, bits, wide * 8 // bits).astype(np.float32)
    middle: Any = np.float32(2 ** (bits - 1))
    if zeros is not None:
        middle = _unpacked(zeros, bits, count).astype(np.float32)[..., None]
    levels -= middle
    levels *= scales[..., None]
    return levels.reshape(rows, -1)[:, :columns]


def _unpacked(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """`count` values along the last axis: a byte each, or two int4 in one, the lower half first."""
    if bits == 8:
        return packed
    halves = np.empty((*packed.shape, 2), np.uint8)
    np.bitwise_and(packed, 15, out=halves[..., 0])
    np.right_shift(packed, 4, out=halves[..., 1])
    return halves.reshape(*packed.shape[:-1], -1)[..., :count]

"""Rounds the matrices of an ONNX graph to int4 or int8 in blocks, each to bits of its own.

Every MatMul of a constant becomes a MatMulNBits. A matrix that the word vectors share with the
output head is rounded once and read by both. Done here and not by the model builder, whose
options know no bits by layer, whose zero points are packed wrongly for an odd number of blocks,
and whose shared word vectors need a width that the block divides.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.wide import dequantized
from .precision import Quantization

__all__ = ["Blocks", "blocks_of", "restored", "round_graph"]

POSITIONS = 4096
"""Of prompt and answer together that a rounded graph keeps tables for."""

_INT8_ACTIVATIONS = 4


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix (rows, columns) in blocks: packed (rows, blocks, bytes), `scales` (rows, blocks),
    `zeros` (rows, bytes) or None where the middle value stands for zero."""

    packed: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None
    columns: int
    bits: int
    size: int


def blocks_of(weight: NDArray[np.float32], bits: int, plan: Quantization) -> Blocks:
    """Round a matrix of shape (rows, columns), rows being outputs."""
    if plan.algorithm == "k_quant":
        return _least_error(weight, bits, plan.block_size)
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        DefaultWeightOnlyQuantizer,
    )

    config = DefaultWeightOnlyQuantConfig(
        block_size=plan.block_size, is_symmetric=plan.symmetric, bits=bits
    )
    columns = np.ascontiguousarray(weight.T, np.float32)
    packed, scales, zeros = DefaultWeightOnlyQuantizer(config).qbits_block_quant(columns)
    kept = None if plan.symmetric else zeros
    return Blocks(packed, scales, kept, weight.shape[1], bits, plan.block_size)


def _least_error(weight: NDArray[np.float32], bits: int, size: int) -> Blocks:
    """k-quant: scale and minimum of each block by least squares, where that is better.

    The library rounds the minimum to a level afterwards, which costs more than the fit gains in
    many blocks of 32 and less, and loses blocks whose values all have one sign. So a block takes
    whichever of k-quant and the nearest levels leaves the smaller squared error.
    """
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    rows, columns = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -columns % size))).reshape(-1, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        fitted = quant_tensor_k_quant_cpu(padded, bits, size)
    nearest = _nearest(padded, bits)
    worse = ~(_errors(padded, *fitted) < _errors(padded, *nearest))  # NaN is worse, too
    levels, scales, zeros = fitted
    for found, other in zip(fitted, nearest, strict=True):
        found[worse] = other[worse]
    count = padded.shape[0] // rows
    packed = _pack(levels.astype(np.uint8).reshape(rows, count, size), bits)
    return Blocks(
        packed,
        scales.astype(np.float32).reshape(rows, count),
        _pack(zeros.astype(np.uint8).reshape(rows, count), bits),
        columns,
        bits,
        size,
    )


def _errors(blocks: NDArray[np.float32], levels: Any, scales: Any, zeros: Any) -> Any:
    return (((levels - zeros) * scales - blocks) ** 2).sum(1)


def _nearest(blocks: NDArray[np.float32], bits: int) -> tuple[Any, Any, Any]:
    most = 2**bits - 1
    low = np.minimum(blocks.min(1, keepdims=True), 0)
    high = np.maximum(blocks.max(1, keepdims=True), 0)
    scales = np.maximum(high - low, 1e-8) / most
    zeros = np.clip(np.round(-low / scales), 0, most)
    return np.clip(np.round(blocks / scales + zeros), 0, most), scales, zeros


def _pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Two int4 a byte along the last axis, the lower half first."""
    if bits == 8:
        return values
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.full_like(values[..., :1], 8)], -1)
    return np.asarray(values[..., ::2] | (values[..., 1::2] << 4), np.uint8)


def restored(blocks: Blocks) -> NDArray[np.float32]:
    """The matrix (rows, columns) that the blocks stand for."""
    scales = np.asarray(blocks.scales, np.float32)
    return dequantized(blocks.packed, scales, blocks.zeros, blocks.columns, blocks.bits)


def round_graph(path: Path, plan: Quantization) -> None:
    """Round the graph at `path` (model.onnx with model.onnx.data beside it) in place."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    turned = {node.output[0]: node for node in graph.node if node.op_type == "Transpose"}
    done: dict[str, Blocks] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            name = node.input[1]
            if name not in done:
                done[name] = _round(weights.pop(name), graph, plan.bits(node.name), plan)
            nodes.append(_matmul(node, done[name], plan))
        else:
            nodes.append(node)
    rebuilt: list[Any] = []
    for node in nodes:
        source = turned.get(node.input[0]) if node.op_type == "Gather" else None
        if source is not None and source.input[0] in done:
            rebuilt.extend(_gather(node, source.input[0], done[source.input[0]]))
        elif node.op_type != "Transpose" or node.input[0] not in done:
            rebuilt.append(node)
    _replace(graph, rebuilt, done)
    _shorten_positions(graph, path.parent / "genai_config.json")
    path.unlink()
    (path.parent / "model.onnx.data").unlink()
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="model.onnx.data",
        size_threshold=32,
    )


def _shorten_positions(graph: Any, config: Path) -> None:
    """Keep the turning tables of `POSITIONS` positions: those of 8,192 take 2 MB."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name.startswith(("cos_cache", "sin_cache")) and tensor.dims[0] > POSITIONS:
            table = numpy_helper.to_array(tensor)[:POSITIONS]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(table), tensor.name))
    told = json.loads(config.read_text(encoding="utf-8"))
    told["model"]["context_length"] = min(told["model"]["context_length"], POSITIONS)
    config.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _round(tensor: Any, graph: Any, bits: int, plan: Quantization) -> Blocks:
    """Put the blocks of a tensor into the graph."""
    import ml_dtypes
    from onnx import TensorProto, numpy_helper

    kinds = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
    kind: Any = kinds.get(tensor.data_type, ml_dtypes.bfloat16)
    weight = numpy_helper.to_array(tensor).astype(np.float32)
    blocks = blocks_of(np.ascontiguousarray(weight.T), bits, plan)
    arrays = [("blocks", blocks.packed), ("scales", blocks.scales.astype(kind))]
    if blocks.zeros is not None:
        arrays.append(("zeros", blocks.zeros))
    graph.initializer.extend(
        numpy_helper.from_array(array, f"{tensor.name}.{part}") for part, array in arrays
    )
    return blocks


def _inputs(name: str, blocks: Blocks) -> list[str]:
    parts = ("blocks", "scales") if blocks.zeros is None else ("blocks", "scales", "zeros")
    return [f"{name}.{part}" for part in parts]


def _matmul(node: Any, blocks: Blocks, plan: Quantization) -> Any:
    from onnx import helper

    exact = {"accuracy_level": _INT8_ACTIVATIONS} if plan.provider == "cpu" else {}
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *_inputs(node.input[1], blocks)],
        list(node.output),
        name=f"{node.name}_Q{blocks.bits}",
        domain="com.microsoft",
        K=blocks.columns,
        N=blocks.packed.shape[0],
        bits=blocks.bits,
        block_size=blocks.size,
        **exact,
    )


def _gather(node: Any, name: str, blocks: Blocks) -> Iterator[Any]:
    """Word vectors out of the blocks of the head; padding is cut off."""
    from onnx import helper, numpy_helper

    def constant(place: str, values: list[int]) -> Any:
        told = numpy_helper.from_array(np.array(values, np.int64))
        return helper.make_node("Constant", [], [place], name=place, value=told)

    rows, count, wide = blocks.packed.shape
    shape, flat = f"{node.name}/shape", f"{node.name}/flat"
    padded = count * blocks.size > blocks.columns
    found = f"{node.name}/padded" if padded else node.output[0]
    yield constant(shape, [rows, count * wide])
    yield helper.make_node("Reshape", [f"{name}.blocks", shape], [flat], name=f"{flat}/Reshape")
    _, *others = _inputs(name, blocks)
    yield helper.make_node(
        "GatherBlockQuantized",
        [flat, node.input[1], *others],
        [found],
        name=f"{node.name}_Q{blocks.bits}",
        domain="com.microsoft",
        bits=blocks.bits,
        block_size=blocks.size,
        gather_axis=0,
        quantize_axis=1,
    )
    if padded:
        names = [f"{node.name}/{part}" for part in ("start", "end", "axis")]
        for place, value in zip(names, (0, blocks.columns, 2), strict=True):
            yield constant(place, [value])
        yield helper.make_node(
            "Slice", [found, *names], [node.output[0]], name=f"{node.name}/Slice"
        )


def _replace(graph: Any, nodes: list[Any], done: dict[str, Blocks]) -> None:
    kept = [tensor for tensor in graph.initializer if tensor.name not in done]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    shapes = [value for value in graph.value_info if value.name not in done]
    del graph.value_info[:]
    graph.value_info.extend(shapes)

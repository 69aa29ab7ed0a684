"""Writes `wide.onnx`: the graph of a generator folder as this project's own runtime opens it.

The same weights file, two differences: matrices that read a norm are products of bytes, and the
head is computed for the last rows only, as many as the input `logits_from` says. `model.onnx` stays
what other runtimes open.

What a norm gives becomes bytes by a step that is fixed here, from the largest values that texts
bring, so that the rows of a pass do not move each other. Channels that are large by themselves are
taken over by the weights first (SmoothQuant, Xiao et al. 2023), by powers of two, which floats bear
without rounding. `o_proj` and `down_proj` stay in blocks, for such steps would move their results
three times as far: in longer blocks of eight bits, which need no unpacking; activations get a step
a block and row.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.wide import TABLE, WIDE, restored_from
from .ragged import refill, write_ragged

__all__ = ["write_wide"]

Floats = NDArray[np.float32]

_NORMS = {"SimplifiedLayerNormalization": 1, "SkipSimplifiedLayerNormalization": 2}
"""Which input of a norm is its weights."""

_POWER = 0.85
"""How much of a channel's largest value its weights take over. Of the default model, results move
by 1.5 % of their root mean square; with 0.65 by 1.8 %, with 1 by 1.7 %, with 0 by 4.9 %."""

_ROOM = 1.2
"""Values a little larger than those seen still fit."""

_LONGER = {256: 1.24, 128: 1.09, 64: 1.0}
"""Lengths of blocks of eight bits, and how fast a product of them is, to the shortest."""

_MOST_EXPONENT = 15
_LENGTH = 320
_LEVELS = 127
_MIDDLE = 128
_END = 2**62


def write_wide(out: Path, texts: Sequence[str]) -> None:
    """Write `out/wide.onnx` and `out/wide.json` by what the norms give for `texts`, and
    `out/ragged.onnx` of the same weights.

    A graph in which no norm is read by rounded matrices alone gets none.
    """
    import onnx

    model = onnx.load(out / "model.onnx", load_external_data=False)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    blocks = {node.name: _blocks(node, weights) for node in graph.node}
    readers = {}
    for norm in (node for node in graph.node if node.op_type in _NORMS):
        own = [node for node in graph.node if norm.output[0] in node.input]
        if own and all(blocks[node.name] and "lm_head" not in node.name for node in own):
            readers[norm.name] = own
    if not readers:
        return
    norms = [node for node in graph.node if node.name in readers]
    largest = _largest(out, model, [norm.output[0] for norm in norms], texts)
    if not largest:
        return
    data = np.memmap(out / "model.onnx.data", np.uint8, "r")
    table, made = [], dict[str, list[Any]]()
    for norm, most in zip(norms, largest, strict=True):
        own = readers[norm.name]
        exponents = _exponents(most, [restored_from(data, blocks[node.name]) for node in own])
        _divide(graph, norm, exponents, weights, out)
        step = float(np.ldexp(most, -exponents).max()) * _ROOM / _LEVELS
        made |= _products(graph, own, step)
        taken = base64.b64encode(exponents.astype(np.int8).tobytes()).decode()
        table += [{"name": node.name, "taken": taken, **blocks[node.name]} for node in own]
    others = [node for node in graph.node if blocks[node.name] and node.name not in made]
    longer = [
        {"name": node.name, "longer": _lengthen(node, told["columns"]), **told}
        for node in others
        if "lm_head" not in node.name and (told := blocks[node.name])
    ]
    nodes = [one for node in graph.node for one in made.get(node.name, [node])]
    refill(graph.node, _cut_head(graph, nodes))
    used = {name for node in graph.node for name in node.input}
    refill(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    for told in table:
        rows, columns = told["rows"], told["columns"]
        graph.initializer.append(_given(f"{told['name']}/bytes", "INT8", (columns, rows), 1))
        graph.initializer.append(_given(f"{told['name']}/steps", "FLOAT", (rows,), 4))
    for told in longer:
        size, rows, count = told["longer"], told["rows"], -(-told["columns"] // told["longer"])
        graph.initializer.append(_given(f"{told['name']}/blocks", "UINT8", (rows, count, size), 1))
        graph.initializer.append(_given(f"{told['name']}/scales", "FLOAT", (rows, count), 4))
    (out / WIDE).write_bytes(model.SerializeToString())
    told = {"of": data.size, "matrices": table, "blocks": longer}
    (out / TABLE).write_text(json.dumps(told), encoding="utf-8")
    write_ragged(out, model)


def _blocks(node: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Where the blocks of a matrix lie in the weights file; nothing where it has none or they do
    not lie there."""
    from onnx import TensorProto

    if node.op_type != "MatMulNBits" or weights[node.input[2]].data_type != TensorProto.FLOAT:
        return {}
    options = {item.name: item.i for item in node.attribute}
    names = ("rows", "columns", "block", "bits")
    keys = ("N", "K", "block_size", "bits")
    told: dict[str, Any] = {name: options[key] for name, key in zip(names, keys, strict=True)}
    for part, name in zip(("blocks", "scales", "zeros"), node.input[1:], strict=False):
        where = {item.key: item.value for item in weights[name].external_data}
        if "length" not in where:
            return {}
        told[part] = [int(where.get("offset", 0)), int(where["length"])]
    return told


def _largest(out: Path, model: Any, names: Sequence[str], texts: Sequence[str]) -> list[Floats]:
    """The largest value by channel of each of the graph's values `names`; none where no text can
    be read: parity tells of a tokenizer that is another model's."""
    import onnxruntime
    from onnx import ModelProto, TensorProto, helper
    from tokenizers import Tokenizer

    twin = ModelProto()
    twin.CopyFrom(model)
    told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    twin.graph.output.extend(told)
    path = out / ".told.onnx"
    path.write_bytes(twin.SerializeToString())
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    finally:
        path.unlink()
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))["model"]
    shape = (1, config["decoder"]["num_key_value_heads"], 0, config["decoder"]["head_size"])
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    found: list[Floats] = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids[:_LENGTH]
        if not ids or max(ids) >= config["vocab_size"]:
            continue
        values = session.run(list(names), _feeds(session, ids, shape))
        most = [np.abs(value).max((0, 1)) for value in values]
        found = [np.maximum(*pair) for pair in zip(found, most, strict=True)] if found else most
    return found


def _feeds(session: Any, ids: Sequence[int], shape: tuple[int, ...]) -> dict[str, Any]:
    types = {"tensor(float)": np.float32, "tensor(int8)": np.int8}
    told = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    empty = {i.name: i.type for i in session.get_inputs() if i.name.startswith("past")}
    named = {item.name for item in session.get_inputs()}
    feeds: dict[str, Any] = {name: value for name, value in told.items() if name in named}
    return feeds | {name: np.zeros(shape, types[kind]) for name, kind in empty.items()}


def _exponents(most: Floats, matrices: Sequence[Floats]) -> NDArray[np.int32]:
    """By which powers of two channels are divided before they become bytes."""
    weight = np.maximum.reduce([np.abs(matrix).max(0) for matrix in matrices])
    scale = np.maximum(most, 1e-6) ** _POWER / np.maximum(weight, 1e-6) ** (1 - _POWER)
    exponents = np.rint(np.log2(scale / np.median(scale)))
    return np.asarray(exponents.clip(-_MOST_EXPONENT, _MOST_EXPONENT), np.int32)


def _divide(
    graph: Any, norm: Any, exponents: NDArray[np.int32], weights: dict[str, Any], out: Path
) -> None:
    """Let a norm give channels divided by 2**exponents."""
    from onnx import numpy_helper

    place = _NORMS[norm.op_type]
    values = numpy_helper.to_array(weights[norm.input[place]], str(out))
    norm.input[place] = f"{norm.name}/divided"
    divided = np.ldexp(values, -exponents).astype(values.dtype)
    graph.initializer.append(numpy_helper.from_array(divided, norm.input[place]))


def _products(graph: Any, readers: Sequence[Any], step: float) -> dict[str, list[Any]]:
    """What stands for matrices that multiply bytes, by their names: what they read is made bytes
    once, before the first."""
    from onnx import TensorProto, helper

    source = readers[0].input[0]
    codes, given, middle = (f"{source}/{part}" for part in ("bytes", "step", "middle"))
    graph.initializer.append(helper.make_tensor(given, TensorProto.FLOAT, [], [step]))
    graph.initializer.append(helper.make_tensor(middle, TensorProto.UINT8, [], [_MIDDLE]))
    made = {
        node.name: [
            helper.make_node(
                "MatMulIntegerToFloat",
                [codes, f"{node.name}/bytes", given, f"{node.name}/steps", middle],
                list(node.output),
                name=node.name,
                domain="com.microsoft",
            )
        ]
        for node in readers
    }
    read = [source, given, middle]
    made[readers[0].name].insert(0, helper.make_node("QuantizeLinear", read, [codes], name=codes))
    return made


def _lengthen(node: Any, columns: int) -> int:
    """Let a matrix read longer blocks of eight bits, handed over when the graph is opened; returns
    their length, the fastest of those that the columns fill or nearly so."""
    size = max(_LONGER, key=lambda size: _LONGER[size] * columns / (-(-columns // size) * size))
    refill(node.input, [node.input[0], f"{node.name}/blocks", f"{node.name}/scales"])
    for option in node.attribute:
        option.i = {"bits": 8, "block_size": size}.get(option.name, option.i)
    return size


def _cut_head(graph: Any, nodes: list[Any]) -> list[Any]:
    """The nodes, with a head that reads the last rows alone; the graph's input and output are told
    of it."""
    from onnx import TensorProto, helper

    place = next(i for i, node in enumerate(nodes) if "logits" in node.output)
    while not nodes[place].op_type.startswith("MatMul"):  # behind it logits may be capped or scaled
        source = nodes[place].input[0]
        place = next(i for i, node in enumerate(nodes) if source in node.output)
    head, cut = nodes[place], "/lm_head/last_rows"
    made = []
    for name, value in (("end", _END), ("axis", 1)):
        told = helper.make_tensor(f"{cut}/{name}", TensorProto.INT64, [1], [value])
        made.append(helper.make_node("Constant", [], [told.name], name=told.name, value=told))
    read = [head.input[0], "logits_from", f"{cut}/end", f"{cut}/axis"]
    made.append(helper.make_node("Slice", read, [cut], name=f"{cut}/Slice"))
    head.input[0] = cut
    graph.input.append(helper.make_tensor_value_info("logits_from", TensorProto.INT64, [1]))
    output = next(item for item in graph.output if item.name == "logits")
    output.type.tensor_type.shape.dim[1].Clear()
    output.type.tensor_type.shape.dim[1].dim_param = "last_rows"
    return [*nodes[:place], *made, *nodes[place:]]


def _given(name: str, kind: str, dims: tuple[int, ...], size: int) -> Any:
    """A tensor whose values are handed over when the graph is opened."""
    from onnx import TensorProto

    tensor = TensorProto(name=name, data_type=TensorProto.DataType.Value(kind), dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    length = size * int(np.prod(dims))
    for key, value in (("location", "given"), ("offset", "0"), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor

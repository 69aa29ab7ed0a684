"""Writes `ragged.onnx`: the second graph of a generator folder for several customers in one pass.

onnxruntime's attention (GroupQueryAttention) takes several rows only where each brings one token.
So here the tokens of all customers stand one behind the other in one row, a ragged batch, which the
matrices read at once; for attention alone they are split, each customer's to a node of their own
with keys and values of their own. All slots are fed in every pass, for none may be empty.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..agent.wide import RAGGED, SLOTS

__all__ = ["refill", "write_ragged"]

_ATTENTION = "GroupQueryAttention"
_KEPT = (3, 4)
"""Which inputs of attention are keys and values; its outputs behind the first are the same."""
_TOLD = {5: "places", 6: "total"}
"""Which inputs say how far keys and values reach; every slot is told for itself."""


def write_ragged(out: Path, wide: Any) -> None:
    """Write `out/ragged.onnx` from the model of `out/wide.onnx`, which is changed.

    A graph whose customers cannot be told apart by attention alone gets none.
    """
    from onnx import TensorProto, helper

    graph = wide.graph
    nodes: list[Any] = []
    for node in graph.node:
        nodes += _split(node) if node.op_type == _ATTENTION else [_gathering(node)]
    nodes = _needed(nodes, {item.name for item in graph.output if item.name == "logits"})
    inputs = [item for item in graph.input if item.name in {n for one in nodes for n in one.input}]
    if {item.name for item in inputs} != {"input_ids"}:
        return
    kept = [item for item in graph.input if item.name.startswith("past_key_values.")]
    present = [item for item in graph.output if item.name.startswith("present.")]
    told = [
        helper.make_tensor_value_info("lengths", TensorProto.INT64, [SLOTS]),
        helper.make_tensor_value_info("logits_of", TensorProto.INT64, ["rows"]),
    ]
    for slot in range(SLOTS):
        told.append(helper.make_tensor_value_info(f"places.{slot}", TensorProto.INT32, [1, 1]))
        told.append(helper.make_tensor_value_info(f"total.{slot}", TensorProto.INT32, []))
    refill(graph.node, nodes)
    refill(graph.input, [*inputs, *_slotted(kept), *told])
    refill(graph.output, [*(o for o in graph.output if o.name == "logits"), *_slotted(present)])
    del graph.value_info[:]
    (out / RAGGED).write_bytes(wide.SerializeToString())


def _split(node: Any) -> list[Any]:
    """Attention, a node a slot."""
    from onnx import helper

    made, parts = [], dict[int, list[str]]()
    for place in range(3):
        if name := node.input[place]:
            parts[place] = [f"{name}/{slot}" for slot in range(SLOTS)]
            read = [name, "lengths"]
            made.append(helper.make_node("Split", read, parts[place], axis=1, name=f"{name}/split"))
    said = [f"{node.output[0]}/{slot}" for slot in range(SLOTS)]
    for slot in range(SLOTS):
        own = type(node)()
        own.CopyFrom(node)
        own.name = f"{node.name}/{slot}"
        for place, names in parts.items():
            own.input[place] = names[slot]
        for place in _KEPT:
            own.input[place] += f".{slot}"
        for place, name in _TOLD.items():
            own.input[place] = f"{name}.{slot}"
        own.output[0] = said[slot]
        for place in range(1, len(own.output)):
            own.output[place] += f".{slot}"
        made.append(own)
    joined = helper.make_node("Concat", said, node.output[:1], axis=1, name=f"{node.name}/joined")
    return [*made, joined]


def _gathering(node: Any) -> Any:
    """A node as it is, but that the head reads the rows that are asked for."""
    from onnx import helper

    if "logits_from" not in node.input:
        return node
    read = [node.input[0], "logits_of"]
    return helper.make_node("Gather", read, list(node.output), axis=1, name=node.name)


def _needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """The nodes that something wanted is made of, in order."""
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]


def _slotted(items: Sequence[Any]) -> list[Any]:
    """Inputs or outputs, once for every slot."""
    made = []
    for item in items:
        for slot in range(SLOTS):
            own = type(item)()
            own.CopyFrom(item)
            own.name = f"{item.name}.{slot}"
            made.append(own)
    return made


def refill(repeated: Any, values: Sequence[Any]) -> None:
    """Let a repeated field of a graph hold these values."""
    kept = list(values)
    del repeated[:]
    repeated.extend(kept)

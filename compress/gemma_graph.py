"""Puts right what onnxruntime-genai's builder gets wrong of Gemma 3.

It takes every sixth layer for one that sees everything, which holds no more once layers were
removed, and it rounds the square root of the hidden size to two decimals: 25.3 for 25.2982, and
the logits are off by a thousandth of their spread, fifty times what rounding in fp32 does. Knows
nothing else of graphs.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["exact_embedding_scale", "told_layers"]

_KIND = "gemma3_text"


@contextmanager
def told_layers(model: Path) -> Iterator[None]:
    """Meanwhile the builder takes a layer for what config.json says it is."""
    config = _config(model)
    kinds = config.get("layer_types")
    if config["model_type"] != _KIND or not kinds:
        yield
        return
    from onnxruntime_genai.models.builder import Gemma3Model

    before = Gemma3Model.is_local
    Gemma3Model.is_local = lambda _, layer: kinds[layer] == "sliding_attention"
    try:
        yield
    finally:
        Gemma3Model.is_local = before


def exact_embedding_scale(model: Path, out: Path) -> None:
    """Write the exact scale into `out/model.onnx`; graphs without a rounded one stay as they are.

    `model` is the folder that the graph was made from.
    """
    import onnx

    config = _config(model)
    if config["model_type"] != _KIND:
        return
    exact = math.sqrt(config["hidden_size"])
    file = out / "model.onnx"
    graph = onnx.load(str(file), load_external_data=False)
    for node in graph.graph.node:
        if node.op_type == "Constant" and _is_scale(node.output[0], exact):
            (value,) = (item.t for item in node.attribute if item.name == "value")
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.data_type)
            fresh = onnx.numpy_helper.from_array(np.array(exact, kind), value.name)
            value.CopyFrom(fresh)
            onnx.save(graph, str(file))
            return


def _config(model: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return told


def _is_scale(name: str, exact: float) -> bool:
    """Whether a constant of the builder is the scale, rounded: `/model/constants/FLOAT/25.3`."""
    return name.startswith("/model/constants/") and name.endswith(f"/{round(exact, 2)}")

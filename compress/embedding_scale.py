"""Puts Gemma's embedding scale right in a graph of onnxruntime-genai's builder.

The builder rounds the square root of the hidden size to two decimals: 25.3 for 25.2982. Logits are
off by a thousandth of their spread then, fifty times what rounding in fp32 does. Knows nothing
else of graphs.
"""

import json
import math
from pathlib import Path

import numpy as np

__all__ = ["exact_embedding_scale"]


def exact_embedding_scale(model: Path, out: Path) -> None:
    """Write the exact scale into `out/model.onnx`; graphs without a rounded one stay as they are.

    `model` is the folder that the graph was made from.
    """
    import onnx

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "gemma3_text":
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


def _is_scale(name: str, exact: float) -> bool:
    """Whether a constant of the builder is the scale, rounded: `/model/constants/FLOAT/25.3`."""
    return name.startswith("/model/constants/") and name.endswith(f"/{round(exact, 2)}")

"""Writes down by which angles a graph turns keys, so that serving can move stored ones.

Knows nothing of what is stored.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..agent.blocks import ROTARY

__all__ = ["write_rotary"]


def write_rotary(out: Path) -> None:
    """Write `out/rotary.json`, read off the cosine and sine tables of `out/model.onnx`.

    A graph that turns keys otherwise than in GroupQueryAttention gets none.
    """
    import onnx

    graph = onnx.load(str(out / "model.onnx"), load_external_data=False).graph
    nodes = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    options = [{item.name: item.i for item in node.attribute} for node in nodes]
    if not nodes or not all(told.get("do_rotary") for told in options):
        return
    tables = {item.name: item for item in graph.initializer}
    kinds = {
        node.input[7]: _frequencies(tables[node.input[7]], tables[node.input[8]], out)
        for node in nodes
    }
    told = {
        "interleaved": bool(options[0].get("rotary_interleaved")),
        "layers": [node.input[7] for node in nodes],
        "kinds": kinds,
    }
    (out / ROTARY).write_text(json.dumps(told), encoding="utf-8")


def _frequencies(cos: Any, sin: Any, out: Path) -> list[float]:
    """Radians a place: the second row of the tables, whatever they are scaled by."""
    from onnx import numpy_helper

    rows = [numpy_helper.to_array(table, str(out))[1].astype(np.float64) for table in (cos, sin)]
    return [float(angle) for angle in np.arctan2(rows[1], rows[0])]

"""Lays the tokens of several customers out in one row, as the graph `ragged.onnx` reads them.

Knows nothing of sessions, nor of where keys and values lie.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["laid_out"]


def laid_out(
    slots: Sequence[tuple[Sequence[int], int, int]],
) -> tuple[dict[str, NDArray[Any]], list[slice]]:
    """What the graph is told, and where the logits of each slot will be.

    Of each slot its tokens, the places before them, and how many of them need logits: the last.
    """
    told: dict[str, NDArray[Any]] = {
        "input_ids": np.array([[token for tokens, _, _ in slots for token in tokens]], np.int64),
        "lengths": np.array([len(tokens) for tokens, _, _ in slots], np.int64),
    }
    wanted, places, end = list[int](), list[slice](), 0
    for slot, (tokens, past, last) in enumerate(slots):
        end += len(tokens)
        places.append(slice(len(wanted), len(wanted) + last))
        wanted += range(end - last, end)
        told[f"places.{slot}"] = np.array([[past + len(tokens) - 1]], np.int32)
        told[f"total.{slot}"] = np.array(past + len(tokens), np.int32)
    told["logits_of"] = np.array(wanted, np.int64)
    return told, places

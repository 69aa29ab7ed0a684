"""The state of a training in one file: a kill leaves the old one or the new one, whole.

Knows nothing of what is trained.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..agent.errors import FeatherdeskError

__all__ = ["Tensors", "load_checkpoint", "save_checkpoint"]

Tensors = dict[str, torch.Tensor]


def save_checkpoint(path: Path, tensors: Tensors, state: Mapping[str, Any]) -> None:
    """Replace the file in one step; `state` must be JSON-ready.

    Raises:
        FeatherdeskError: the disk is full or the place cannot be written; the old file stays.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, fresh, {"state": json.dumps(state)})
        os.replace(fresh, path)
    except (OSError, SafetensorError) as error:
        fresh.unlink(missing_ok=True)
        raise FeatherdeskError(
            f"{path} cannot be written: {error}; free space and run the same command again: it "
            "goes on from the last checkpoint"
        ) from None


def load_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """Tensors and state, or None where there is no file.

    Raises:
        FeatherdeskError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise FeatherdeskError(f"{path} is damaged ({error}); remove it to start anew") from None

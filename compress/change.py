"""Changes a model and measures what that does to its answers: the frame of the steps that prune.

Knows nothing of what is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .activations import probes_of
from .architecture import open_model, save_model
from .forward import Batch, answers, mean_divergence
from .steps import Task

__all__ = ["Change", "changed"]

Change = Callable[[Any, Sequence[Batch]], Mapping[str, Any]]
"""Changes a model in place, with probes to measure importance on; returns what it measured."""

_COMPARED = 4
"""Probes whose answers are compared: batches of four sequences."""


def changed(
    source: Path, out: Path, task: Task, change: Change, *, probes: int, needed: bool = True
) -> dict[str, Any]:
    """Write the model in `source` to `out` as `change` leaves it.

    Tells what `change` measured, and as `divergence` the effect on answers (nats a token; None
    without calibration data).

    Raises:
        FeatherdeskError: there is no calibration data, and it is `needed`.
    """
    found = probes_of(source, task, probes, needed=needed)
    compared = found[:_COMPARED]
    model = open_model(source)
    wanted = answers(model, compared)
    told = change(model, found)
    effect = round(mean_divergence(model, compared, wanted), 5) if compared else None
    save_model(model, source, out)
    return {**told, "divergence": effect}

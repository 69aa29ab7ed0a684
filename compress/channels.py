"""Removes channels of the feed-forward layers.

A channel counts for the norm of its activation on the bot's own questions times the norm of its
column in the down projection (Wanda, arXiv 2306.11695, taken for whole columns as in FLAP,
arXiv 2312.11983; FLAP's new bias would be a tensor that these architectures lack, so what the
lost channels said is moved into the columns that stay instead). As many stay in every layer, so
that every exporter takes the shape. Knows nothing of heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from .activations import walk
from .architecture import Shape, configure, shape_of
from .change import changed
from .forward import Batch
from .linear import keep_columns, keep_rows
from .settings import at_least, fewer
from .steps import Task

__all__ = ["PruneChannels", "channel_scores"]

_PROBES = 8


@dataclass(frozen=True, slots=True)
class PruneChannels:
    """The step `channels`: keep the `keep` most important channels of each feed-forward layer.

    `compensate` lets the columns that stay take over what they can of those that go, by least
    squares.
    """

    kind: ClassVar[str] = "prune"
    keep: int
    compensate: bool = True

    def __post_init__(self) -> None:
        at_least(1, keep=self.keep)

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves.

        Raises:
            ConfigError: the model has no more channels than should stay.
        """
        fewer("channels", self.keep, shape.channels, "channels")
        return replace(shape, channels=self.keep)

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the narrower model; tells the effect on answers."""
        shape = shape_of(source)
        self.fits(shape)

        def cut(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
            for layer, grams in walk(
                model, probes, ["mlp.down_proj"], progress=task.progress, label="pruning channels"
            ):
                self._cut(layer.mlp, grams["mlp.down_proj"])
            configure(model, intermediate_size=self.keep)
            return {"channels": self.keep, "of": shape.channels}

        return changed(source, out, task, cut, probes=_PROBES)

    def _cut(self, mlp: Any, gram: torch.Tensor) -> None:
        scores = channel_scores(mlp.down_proj.weight.detach(), gram)
        kept = sorted(scores.topk(self.keep).indices.tolist())
        keep_rows(mlp.gate_proj, kept)
        keep_rows(mlp.up_proj, kept)
        keep_columns(mlp.down_proj, kept, gram if self.compensate else None)


def channel_scores(weight: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Norm of activation times norm of column, shape (channels,).

    `weight` is the down projection's (hidden, channels), `gram` of its inputs.
    """
    return gram.diagonal().clamp(min=0).sqrt() * weight.float().norm(dim=0)

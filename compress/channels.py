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

from ..agent.errors import ConfigError
from .activations import walk
from .architecture import Shape, configure, shape_of
from .change import changed
from .forward import Batch
from .linear import keep_columns, keep_rows
from .settings import at_least, fewer
from .steps import Task

__all__ = ["PruneChannels", "channel_scores"]

_PROBES = 8

_UNITS = (256, 32, 1)
"""Multiples that a share is rounded to: the longest blocks of the second graph have 256 columns."""


@dataclass(frozen=True, slots=True)
class PruneChannels:
    """The step `channels`: keep the `keep` most important channels of each feed-forward layer, or
    a `share` (0..1) of them, in multiples that kernels fill.

    `compensate` lets the columns that stay take over what they can of those that go, by least
    squares.
    """

    kind: ClassVar[str] = "prune"
    keep: int = 0
    compensate: bool = True
    share: float = 0.0

    def __post_init__(self) -> None:
        if self.share:
            if self.keep:
                raise ConfigError("keep and share say the same: give one of them")
            if not 0 < self.share < 1:
                raise ConfigError(f"share must be between 0 and 1, not {self.share}")
        elif not self.keep:
            raise ConfigError("say how many channels to keep (at least 1), or which share of them")
        else:
            at_least(1, keep=self.keep)

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves.

        Raises:
            ConfigError: the model has no more channels than should stay.
        """
        kept = self.kept(shape.channels)
        fewer("channels", kept, shape.channels, "channels")
        return replace(shape, channels=kept)

    def kept(self, channels: int) -> int:
        """How many of so many stay."""
        if self.keep:
            return self.keep
        unit = next(size for size in _UNITS if 4 * size <= channels or size == 1)
        most = (channels - 1) // unit * unit
        return max(unit, min(most, round(self.share * channels / unit) * unit))

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the narrower model; tells the effect on answers."""
        shape = shape_of(source)
        kept = self.fits(shape).channels

        def cut(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
            for layer, grams in walk(
                model, probes, ["mlp.down_proj"], progress=task.progress, label="pruning channels"
            ):
                self._cut(layer.mlp, grams["mlp.down_proj"], kept)
            configure(model, intermediate_size=kept)
            return {"channels": kept, "of": shape.channels}

        return changed(source, out, task, cut, probes=_PROBES)

    def _cut(self, mlp: Any, gram: torch.Tensor, count: int) -> None:
        scores = channel_scores(mlp.down_proj.weight.detach(), gram)
        kept = sorted(scores.topk(count).indices.tolist())
        keep_rows(mlp.gate_proj, kept)
        keep_rows(mlp.up_proj, kept)
        keep_columns(mlp.down_proj, kept, gram if self.compensate else None)


def channel_scores(weight: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Norm of activation times norm of column, shape (channels,).

    `weight` is the down projection's (hidden, channels), `gram` of its inputs.
    """
    return gram.diagonal().clamp(min=0).sqrt() * weight.float().norm(dim=0)

"""Removes channels of the feed-forward layers.

A channel counts for the norm of its activation on the bot's own questions times the norm of its
column in the down projection (Wanda, arXiv 2306.11695, taken for whole columns as in FLAP,
arXiv 2312.11983; FLAP's new bias would be a tensor that these architectures lack, so what the
lost channels said is moved into the columns that stay instead). As many stay in every layer, so
that every exporter takes the shape. Knows nothing of heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..agent.errors import ConfigError
from .activations import probes_of, walk
from .architecture import Shape, open_model, save_model, shape_of
from .forward import answers, effect_on_answers
from .linear import keep_columns, keep_rows
from .steps import Task

__all__ = ["PruneChannels", "channel_scores"]

_PROBES = 8
_BLOCKS = 64
"""Two int4 blocks: onnxruntime's quantizer fails where their number in a row is odd."""


@dataclass(frozen=True, slots=True)
class PruneChannels:
    """The step `channels`: keep the `keep` most important channels of each feed-forward layer.

    A multiple of 64 is what the int4 export takes (pairs of blocks of 32). `compensate` lets the
    columns that stay take over what they can of those that go, by least squares.
    """

    kind: ClassVar[str] = "prune"
    keep: int
    compensate: bool = True

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError(f"keep must be at least 1, not {self.keep}")

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves.

        Raises:
            ConfigError: the model has no more channels than should stay.
        """
        if self.keep >= shape.channels:
            raise ConfigError(
                f"channels: asks to keep {self.keep} channels, the model has {shape.channels} a "
                "layer; ask for fewer, or leave the step out"
            )
        return replace(shape, channels=self.keep)

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the narrower model; tells the effect on answers."""
        shape = shape_of(source)
        self.fits(shape)
        if self.keep % _BLOCKS:
            task.notify(
                f"channels: {self.keep} is no multiple of {_BLOCKS}, which the int4 export asks for"
            )
        probes = probes_of(source, task, _PROBES)
        model = open_model(source)
        wanted = answers(model, probes[:4])
        for layer, grams in walk(
            model, probes, ["mlp.down_proj"], progress=task.progress, label="pruning channels"
        ):
            mlp: Any = layer.mlp
            gram = grams["mlp.down_proj"]
            scores = channel_scores(mlp.down_proj.weight.detach(), gram)
            kept = sorted(scores.topk(self.keep).indices.tolist())
            keep_rows(mlp.gate_proj, kept)
            keep_rows(mlp.up_proj, kept)
            keep_columns(mlp.down_proj, kept, gram if self.compensate else None)
        for config in (model.config, model.get_decoder().config):
            config.intermediate_size = self.keep
        effect = effect_on_answers(model, probes[:4], wanted)
        save_model(model, source, out)
        return {"channels": self.keep, "of": shape.channels, "divergence": effect}


def channel_scores(weight: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Norm of activation times norm of column, shape (channels,).

    `weight` is the down projection's (hidden, channels), `gram` of its inputs.
    """
    return gram.diagonal().clamp(min=0).sqrt() * weight.float().norm(dim=0)

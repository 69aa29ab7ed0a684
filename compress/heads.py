"""Removes attention groups: a KV head with the query heads that share it.

A group counts for as much as it writes into the residual stream on the bot's own questions: the
norm of its part of the output projection over real activations (the criterion of Muralidharan
et al., "Minitron", arXiv 2407.14679, carried through the projection). As many stay in every
layer, so that every exporter takes the shape. Knows nothing of channels.
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

__all__ = ["PruneHeads", "group_scores", "keep_groups"]

_PROBES = 8


@dataclass(frozen=True, slots=True)
class PruneHeads:
    """The step `heads`: keep the `keep` most important KV heads of each layer, with their queries.

    `compensate` lets the output projection take over what it can of the groups that go.
    """

    kind: ClassVar[str] = "prune"
    keep: int
    compensate: bool = True

    def __post_init__(self) -> None:
        at_least(1, keep=self.keep)

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves.

        Raises:
            ConfigError: the model has no more KV heads than should stay.
        """
        fewer("heads", self.keep, shape.kv_heads, "KV heads")
        return replace(shape, kv_heads=self.keep, heads=self.keep * shape.group)

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the model with fewer heads; tells the groups kept and the effect on answers."""
        shape = shape_of(source)
        after = self.fits(shape)

        def cut(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
            kept = [
                self._cut(layer.self_attn, grams["self_attn.o_proj"], shape)
                for layer, grams in walk(
                    model,
                    probes,
                    ["self_attn.o_proj"],
                    progress=task.progress,
                    label="pruning heads",
                )
            ]
            configure(
                model,
                num_attention_heads=after.heads,
                num_key_value_heads=after.kv_heads,
                head_dim=after.head_size,  # no longer the hidden size over the heads
            )
            return {"kv_heads": after.kv_heads, "of": shape.kv_heads, "kept": kept}

        return changed(source, out, task, cut, probes=_PROBES)

    def _cut(self, attention: Any, gram: torch.Tensor, shape: Shape) -> list[int]:
        """Leave the groups that count most; returns which."""
        scores = group_scores(attention.o_proj.weight.detach(), gram, shape)
        kept = sorted(sorted(range(len(scores)), key=lambda g: -scores[g])[: self.keep])
        keep_groups(attention, kept, shape, gram if self.compensate else None)
        return kept


def group_scores(weight: torch.Tensor, gram: torch.Tensor, shape: Shape) -> list[float]:
    """Root mean square of what each group adds to the residual stream.

    `weight` is the output projection's (hidden, heads * head size), `gram` of its inputs.
    """
    width = shape.group * shape.head_size
    found = []
    for start in range(0, shape.kv_heads * width, width):
        part = weight[:, start : start + width].float()
        inner = gram[start : start + width, start : start + width]
        found.append(float(((part @ inner) * part).sum().clamp(min=0).sqrt()))
    return found


def keep_groups(
    attention: Any, groups: Sequence[int], shape: Shape, gram: torch.Tensor | None = None
) -> None:
    """Leave only some groups of an attention; norms of queries and keys are shared by all."""
    wide, narrow = shape.group * shape.head_size, shape.head_size
    queries = [row for g in groups for row in range(g * wide, (g + 1) * wide)]
    keys = [row for g in groups for row in range(g * narrow, (g + 1) * narrow)]
    keep_rows(attention.q_proj, queries)
    keep_rows(attention.k_proj, keys)
    keep_rows(attention.v_proj, keys)
    keep_columns(attention.o_proj, queries, gram)

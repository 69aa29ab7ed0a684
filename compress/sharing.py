"""Lets neighbouring layers share one set of weights.

Sharing across layers: Lan et al., "ALBERT", arXiv 1909.11942; of neighbours: Liu et al.,
"MobileLLM", arXiv 2402.14905. The folder keeps a copy a layer, so that transformers and the
exporters load it (safetensors and ONNX builders know no shared layers): sharing makes a compact
file smaller (`compact`), not the model in memory. Which layers share is seen from their weights,
which are equal bit for bit. Knows nothing of pruning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..agent.errors import ConfigError
from ..agent.progress import track
from .architecture import Shape, layers_of, shape_of
from .change import changed
from .compact import compact_bytes
from .forward import Batch, answers, mean_divergence
from .settings import at_least, one_of
from .steps import Task

__all__ = ["ShareWeights", "Shared", "share_layers", "tie", "untie"]

_PROBES = 4
_PARTS = {"mlp": ("mlp.",), "attention": ("self_attn.",), "all": ("mlp.", "self_attn.")}

Shared = list[list[tuple[torch.nn.Module, str]]]
"""Places of one weight: modules and the parameter's name in each."""


@dataclass(frozen=True, slots=True)
class ShareWeights:
    """The step `sharing`: `groups` runs of `size` neighbouring layers share their matrices.

    Taken are the runs whose sharing changes the answers least; `which` names the first layer of
    each instead, counted from 0. `parts` is `mlp`, `attention` or `all`; `take` is `average` or
    `first`, the weights that stay. Norms stay each layer's own.
    """

    kind: ClassVar[str] = "prune"
    groups: int = 4
    size: int = 2
    parts: str = "mlp"
    take: str = "average"
    which: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        one_of(_PARTS, parts=self.parts)
        one_of(("average", "first"), take=self.take)
        at_least(1, groups=self.groups)
        at_least(2, size=self.size)
        if any(b - a < self.size for a, b in zip(self.which, self.which[1:], strict=False)):
            raise ConfigError(f"which must ascend by at least {self.size}, not {list(self.which)}")

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves: the same.

        Raises:
            ConfigError: the model has too few layers.
        """
        wanted = (len(self.which) or self.groups) * self.size
        if wanted > shape.layers:
            raise ConfigError(
                f"sharing: asks for {wanted} layers in groups, the model has {shape.layers}"
            )
        if any(not 0 <= first <= shape.layers - self.size for first in self.which):
            raise ConfigError(
                f"sharing: which = {list(self.which)}, but groups of {self.size} start at layers "
                f"0 to {shape.layers - self.size}"
            )
        return shape

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the model; tells the groups, the sizes in bytes and the effect on answers."""
        self.fits(shape_of(source))

        def share(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
            firsts = list(self.which)
            if not firsts:
                alone = self._effects(model, probes, progress=task.progress)
                firsts = _apart(alone, self.groups, self.size)
            groups = [list(range(first, first + self.size)) for first in sorted(firsts)]
            for group in groups:
                share_layers(model, group, self.parts, self.take)
            return {"groups": groups}

        told = changed(source, out, task, share, probes=_PROBES, needed=not self.which)
        before, after = compact_bytes(source), compact_bytes(out)
        return {
            **told,
            "bytes": after.plain,
            "compact_bytes_before": before.compact,
            "compact_bytes": after.compact,
        }

    def _effects(self, model: Any, probes: Sequence[Batch], *, progress: bool) -> list[float]:
        """By first layer: the divergence when only that group shares."""
        wanted = answers(model, probes)
        firsts = range(len(layers_of(model)) - self.size + 1)
        found = []
        for first in track(firsts, "trying groups") if progress else firsts:
            group = list(range(first, first + self.size))
            kept = [dict(layers_of(model)[n].state_dict()) for n in group]
            kept = [{name: tensor.clone() for name, tensor in one.items()} for one in kept]
            share_layers(model, group, self.parts, self.take)
            found.append(mean_divergence(model, probes, wanted))
            for n, state in zip(group, kept, strict=True):
                layers_of(model)[n].load_state_dict(state)
        return found


def _apart(effects: Sequence[float], count: int, size: int) -> list[int]:
    """`count` first layers of least total effect whose groups do not overlap.

    Exact, by the best choice over ever more layers; a greedy one may leave no room for the last.
    """
    best: list[dict[int, tuple[float, list[int]]]] = [{0: (0.0, [])}]
    for end in range(1, len(effects) + size):
        options = dict(best[-1])
        first = end - size
        if first >= 0:
            for number, (total, chosen) in best[first].items():
                here = (total + effects[first], [*chosen, first])
                if number < count and here[0] < options.get(number + 1, (float("inf"), []))[0]:
                    options[number + 1] = here
        best.append(options)
    return best[-1][count][1]


@torch.no_grad()  # type: ignore[untyped-decorator]
def share_layers(
    model: Any, group: Sequence[int], parts: str = "mlp", take: str = "average"
) -> None:
    """Give the matrices of a group of layers equal weights, each layer its own copy."""
    members = [dict(layers_of(model)[n].named_parameters()) for n in group]
    for name, weight in members[0].items():
        if weight.dim() < 2 or not name.startswith(_PARTS[parts]):
            continue
        same = [member[name] for member in members]
        common = torch.stack(list(same)).mean(0) if take == "average" else weight.clone()
        for one in same:
            one.copy_(common)


def tie(model: Any) -> Shared:
    """Make decoder matrices of different layers that are equal one parameter: they learn as one."""
    known: dict[tuple[Any, ...], list[tuple[torch.nn.Module, str]]] = {}
    for layer in layers_of(model):
        for module in layer.modules():
            for name, weight in list(module._parameters.items()):
                if weight is None or weight.dim() < 2 or not weight.any():
                    continue
                key = (tuple(weight.shape), float(weight.detach().double().sum()))
                places = known.setdefault(key, [])
                if places and torch.equal(places[0][0]._parameters[places[0][1]], weight):
                    module._parameters[name] = places[0][0]._parameters[places[0][1]]
                    places.append((module, name))
                elif not places:
                    places.append((module, name))
    return [places for places in known.values() if len(places) > 1]


def untie(shared: Shared) -> None:
    """Give every place its own copy again: what save_pretrained asks for."""
    for places in shared:
        for module, name in places[1:]:
            weight = module._parameters[name]
            assert weight is not None
            module._parameters[name] = torch.nn.Parameter(weight.detach().clone())

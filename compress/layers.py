"""Removes whole decoder layers: by block influence, or greedily by the effect on the answers.

Block influence: Men et al., "ShortGPT", arXiv 2403.03853. Greedy removal by effect on a
calibration loss: Song et al., "SLEB", arXiv 2402.09025; here the effect is measured on the words
of the bot's own answers, as divergence from what the whole model says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..agent.errors import ConfigError
from ..agent.progress import track
from .adalora import layer_ranks
from .architecture import Shape, configure, layers_of, shape_of
from .change import changed
from .forward import Batch, answers, hidden_through, mean_divergence
from .settings import at_least, one_of
from .steps import Task

__all__ = ["RemoveLayers", "block_influence", "greedy_order", "without_layers"]

_PROBES = 4
"""Batches of four sequences to measure the effect of a removal on."""

_TRIED = 3


@dataclass(frozen=True, slots=True)
class RemoveLayers:
    """The step `layers`: take out `remove` of the decoder layers.

    `by` is `answers` (greedy, each time the layer whose loss changes the answers least),
    `influence` (the layers that turn their input least, all at once) or `adalora` (the layers in
    which the AdaLoRA adapter in the folder `adapter` kept the fewest ranks; layers that it does
    not touch stay). `which` names layers instead, counted from 0.
    """

    kind: ClassVar[str] = "prune"
    remove: int = 4
    by: str = "answers"
    which: tuple[int, ...] = ()
    adapter: str = ""

    def __post_init__(self) -> None:
        one_of(("answers", "influence", "adalora"), by=self.by)
        at_least(1, remove=self.remove)
        if len(set(self.which)) != len(self.which):
            raise ConfigError(f"which names a layer twice: {list(self.which)}")
        if (self.by == "adalora") != bool(self.adapter):
            raise ConfigError('by = "adalora" and the folder of its adapter belong together')

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves.

        Raises:
            ConfigError: no layer would stay, or `which` or `adapter` name others than there are.
        """
        count = len(self.which) or self.remove
        if count >= shape.layers:
            raise ConfigError(
                f"layers: asks to remove {count} of {shape.layers} layers; at least one must stay"
            )
        if any(not 0 <= layer < shape.layers for layer in self.which):
            raise ConfigError(
                f"layers: which = {list(self.which)}, but layers are 0 to {shape.layers - 1}"
            )
        if self.adapter and not self.which:
            self._poorest(shape)
        return replace(shape, layers=shape.layers - count)

    def _poorest(self, shape: Shape) -> list[int]:
        """The layers with the fewest ranks of AdaLoRA; of equals, later ones first."""
        ranks = layer_ranks(Path(self.adapter).expanduser())
        if max(ranks) >= shape.layers:
            raise ConfigError(
                f"layers: {self.adapter} is an adapter for {max(ranks) + 1} layers or more, the "
                f"model has {shape.layers}; name its own base"
            )
        if len(ranks) < self.remove:
            raise ConfigError(
                f"layers: asks to remove {self.remove} layers, {self.adapter} touches {len(ranks)}"
            )
        return sorted(ranks, key=lambda layer: (ranks[layer], -layer))[: self.remove]

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the model without its least important layers; tells the effect on answers."""
        shape = shape_of(source)
        self.fits(shape)
        chosen = list(self.which) or (self._poorest(shape) if self.by == "adalora" else [])

        def cut(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
            gone, told = (chosen, {}) if chosen else self._measured(model, probes, task)
            without_layers(model, gone)
            return {**told, "removed": gone, "layers": shape.layers - len(gone)}

        return changed(source, out, task, cut, probes=_PROBES, needed=not chosen)

    def _measured(
        self, model: Any, probes: Sequence[Batch], task: Task
    ) -> tuple[list[int], dict[str, Any]]:
        """The layers to remove, and the measure that chose them."""
        if self.by == "influence":
            scores = block_influence(model, probes)
            gone = sorted(range(len(scores)), key=scores.__getitem__)[: self.remove]
            return gone, {"influence": [round(score, 5) for score in scores]}
        order = greedy_order(model, probes, self.remove, progress=task.progress)
        return [layer for layer, _ in order], {"divergences": [round(loss, 5) for _, loss in order]}


@torch.no_grad()  # type: ignore[untyped-decorator]
def block_influence(model: Any, probes: Sequence[Batch]) -> list[float]:
    """1 - cosine of what goes into and comes out of each layer, mean over tokens (0..2)."""
    totals = [0.0] * len(layers_of(model))
    tokens = 0
    for probe in probes:
        states = hidden_through(model, probe)
        real = probe.real
        tokens += int(real.sum())
        for layer, (before, after) in enumerate(pairwise(states)):
            turned = 1 - torch.cosine_similarity(before[real], after[real], dim=-1)
            totals[layer] += float(turned.sum())
    return [total / tokens for total in totals]


@torch.no_grad()  # type: ignore[untyped-decorator]
def greedy_order(
    model: Any,
    probes: Sequence[Batch],
    remove: int,
    *,
    progress: bool = True,
    going_on: Callable[[], bool] = lambda: True,
) -> list[tuple[int, float]]:
    """Layers in the order of removal, each with the divergence (nats a token) once it is gone.

    Every layer is tried once; then only those that did best, three for each that is to go. Where
    it is not to be `going_on`, the others follow as they stood in the round before, each with what
    its loss alone came to there.
    """
    wanted = answers(model, probes)
    kept = list(range(len(layers_of(model))))
    everything = list(layers_of(model))
    tried = kept
    order: list[tuple[int, float]] = []
    rounds = track(range(remove), "removing layers") if progress else range(remove)
    for done in rounds:
        losses = {}
        for layer in tried:
            _install(model, [everything[n] for n in kept if n != layer])
            losses[layer] = mean_divergence(model, probes, wanted)
        worst = min(losses, key=losses.__getitem__)
        kept = [layer for layer in kept if layer != worst]
        order.append((worst, losses.pop(worst)))
        if not going_on():
            rest = sorted(losses.items(), key=lambda told: told[1])
            order += rest[: remove - done - 1]
            break
        tried = sorted(losses, key=losses.__getitem__)[: _TRIED * (remove - done - 1)]
    _install(model, everything)
    return order


def without_layers(model: Any, gone: Sequence[int]) -> Any:
    """The model without some layers; configuration and cache positions follow."""
    kept = [n for n in range(len(layers_of(model))) if n not in set(gone)]
    config = model.config
    kinds = getattr(config, "layer_types", None)
    _install(model, [layers_of(model)[n] for n in kept])
    if kinds:
        config.layer_types = [kinds[n] for n in kept]
    if getattr(config, "no_rope_layers", None):  # smollm3: which layers turn their keys
        config.no_rope_layers = [config.no_rope_layers[n] for n in kept]
    return model


def _install(model: Any, layers: Sequence[torch.nn.Module]) -> None:
    model.get_decoder().layers = torch.nn.ModuleList(layers)
    configure(model, num_hidden_layers=len(layers))
    for place, layer in enumerate(layers):
        layer.self_attn.layer_idx = place

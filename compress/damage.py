"""What a compression broke, and where: a map over steps, and a sweep over layers.

The map counts, for entries, intents, kinds and languages, the questions that the parent has right
and a step's model has not. The sweep rounds one layer at a time and measures how far the answers
move; layers that move them most are kept finer (mixed precision by sensitivity: Dong et al.,
"HAWQ", arXiv 1905.03696; measured here on the answers themselves instead of the curvature).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..agent.errors import ConfigError
from ..agent.progress import track
from .activations import probes_of
from .architecture import layers_of, open_model, shape_of
from .forward import Batch, answers, mean_divergence
from .outcomes import Outcome
from .rounding import rounded
from .steps import Task

__all__ = [
    "GROUPS",
    "DamageMap",
    "DamageRow",
    "choose_finer",
    "damage_map",
    "finer_layers",
    "layer_sweep",
]

GROUPS = ("kind", "language", "category", "entry")
"""What questions are grouped by, the coarsest first."""

_PROBES = 4
"""Batches of four sequences to measure a layer on."""


@dataclass(frozen=True, slots=True)
class DamageRow:
    """One group of questions: how many the parent has right, and the share of them (0..1) that
    each step's model has not."""

    group: str
    name: str
    questions: int
    lost: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DamageMap:
    """Rows by group; in each, what was broken most at the last step first."""

    steps: tuple[str, ...]
    rows: tuple[DamageRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Nothing but numbers and names."""
        return {"steps": list(self.steps), "rows": [asdict(row) for row in self.rows]}

    def of(self, group: str) -> list[DamageRow]:
        """The rows of one group."""
        return [row for row in self.rows if row.group == group]


def damage_map(
    parent: Sequence[Outcome], steps: Mapping[str, Sequence[Outcome]], measure: str = "raw"
) -> DamageMap:
    """Where each step's model lost questions that the parent has right.

    `measure` is a flag of an outcome: `raw`, `sent`, `first` or `refusal`. Raw is asked of
    questions that the parent's model wrote; questions a step was not asked do not count for it.
    """
    if measure not in {"raw", "sent", "first", "refusal"}:
        raise ConfigError(f"measure must be raw, sent, first or refusal, not {measure!r}")
    right = [
        outcome
        for outcome in parent
        if getattr(outcome, measure) and (measure != "raw" or outcome.wrote)
    ]
    after = {step: {outcome.id: outcome for outcome in told} for step, told in steps.items()}
    rows = []
    for group in GROUPS:
        members: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in right:
            if name := getattr(outcome, group):
                members[name].append(outcome)
        found = [
            DamageRow(group, name, len(asked), _lost(asked, after, measure))
            for name, asked in members.items()
        ]
        last = next(reversed(after), "")
        rows += sorted(found, key=lambda row: (-row.lost.get(last, 0.0), -row.questions, row.name))
    return DamageMap(tuple(after), tuple(rows))


def _lost(
    asked: Sequence[Outcome], after: Mapping[str, Mapping[str, Outcome]], measure: str
) -> dict[str, float]:
    shares = {}
    for step, told in after.items():
        found = [told[outcome.id] for outcome in asked if outcome.id in told]
        if found:
            lost = sum(not getattr(outcome, measure) for outcome in found)
            shares[step] = round(lost / len(found), 4)
    return shares


@torch.no_grad()  # type: ignore[untyped-decorator]
def layer_sweep(
    model: Any,
    probes: Sequence[Batch],
    *,
    bits: int = 4,
    block_size: int = 32,
    spared: bool = False,
    progress: bool = True,
) -> list[float]:
    """For each layer, how far the answers move (nats a token) when its matrices are rounded.

    With `spared` all layers are rounded but one, and the number is how much nearer the answers
    come for it: what is gained by keeping that layer as it is.
    """
    wanted = answers(model, probes)
    layers = list(layers_of(model))

    def apart(chosen: Sequence[int]) -> float:
        with _rounded_layers([layers[n] for n in chosen], bits, block_size):
            return float(mean_divergence(model, probes, wanted))

    numbers = range(len(layers))
    whole = apart(numbers) if spared else 0.0
    steps = track(numbers, "measuring layers") if progress else numbers
    if spared:
        return [whole - apart([n for n in numbers if n != layer]) for layer in steps]
    return [apart([layer]) for layer in steps]


@contextmanager
def _rounded_layers(layers: Sequence[torch.nn.Module], bits: int, block: int) -> Iterator[None]:
    """While it lasts, the matrices of these layers are rounded; the originals come back."""
    kept = [
        (module, module.weight.data)
        for layer in layers
        for module in layer.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        for module, weight in kept:
            module.weight.data = rounded(weight, block, bits)
        yield
    finally:
        for module, weight in kept:
            module.weight.data = weight


def choose_finer(
    scores: Sequence[float], *, count: int = 0, budget_mb: float = 0.0, layer_mb: float = 0.0
) -> tuple[int, ...]:
    """The layers to keep finer, in order: the `count` most sensitive, or as many as `budget_mb`
    pays for at `layer_mb` more a layer.

    A layer whose rounding does not move the answers is never among them.
    """
    if count < 0 or budget_mb < 0:
        raise ConfigError("finer layers: count and budget must not be below 0")
    if budget_mb:
        if layer_mb <= 0:
            raise ConfigError("finer layers: a budget needs what a layer costs, in MB")
        count = int(budget_mb / layer_mb + 1e-9)
    order = sorted(range(len(scores)), key=lambda layer: (-scores[layer], layer))
    return tuple(sorted(layer for layer in order[:count] if scores[layer] > 0))


def finer_layers(
    model: Path, task: Task, count: int, *, bits: int = 4, block_size: int = 32
) -> tuple[tuple[int, ...], list[float]]:
    """The `count` layers of a model folder that `mixed` precision keeps finer, and the sweep (nats
    a token, a layer each) that they were chosen by, on the task's material.

    Raises:
        FeatherdeskError: there are fewer layers, or nothing to measure on.
    """
    shape = shape_of(model)
    if not 0 <= count <= shape.layers:
        raise ConfigError(f"asks to keep {count} of {shape.layers} layers finer")
    if not count:
        return (), []
    probes = probes_of(model, task, _PROBES)
    opened = open_model(model)
    scores = layer_sweep(opened, probes, bits=bits, block_size=block_size, progress=task.progress)
    return choose_finer(scores, count=count), scores

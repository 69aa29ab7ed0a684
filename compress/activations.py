"""What the linear parts of each decoder layer read on calibration data.

Walks a model layer by layer, so that a layer is judged on what the layers below it, already
changed, really give it (as in SparseGPT, arXiv 2301.00774). Holds the states of the probes and
one layer's matrices at a time. Knows nothing of what is cut.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..agent.errors import FeatherdeskError
from ..agent.progress import track
from .architecture import layers_of
from .forward import Batch, batch_of, hidden, states_of
from .material import LENGTH, batches, encoded
from .model import load_tokenizer
from .steps import Task

__all__ = ["Grams", "probes_of", "walk"]

Grams = dict[str, torch.Tensor]
"""By the name of a linear part: the mean outer product of its inputs, (in, in), fp32."""


def probes_of(source: Path, task: Task, count: int, *, needed: bool = True) -> list[Batch]:
    """`count` batches of four packed sequences of calibration data.

    Raises:
        FeatherdeskError: there is none that fits, and it is `needed`.
    """
    tokenizer = load_tokenizer(source)
    sequences = encoded(task.material.rows, task.material.texts, tokenizer)
    probes = [batch_of(group) for group in islice(batches(sequences, 4, task.seed), count)]
    if needed and not probes:
        raise FeatherdeskError(
            "no calibration data to measure the importance on: name a FAQ, texts, or rows of at "
            f"most {LENGTH} tokens"
        )
    return probes


@torch.no_grad()  # type: ignore[untyped-decorator]
def walk(
    model: Any, probes: Sequence[Batch], names: Sequence[str], *, progress: bool, label: str
) -> Iterator[tuple[torch.nn.Module, Grams]]:
    """Each decoder layer in order, with the Gram matrices of its parts called `names`.

    What the caller changes in a layer is what the layers above it are measured on.
    """
    states, told = _caught(model, probes)
    layers = list(enumerate(layers_of(model)))
    for number, layer in track(layers, label) if progress else layers:
        with _watched(layer, names) as watch:
            for state, given, probe in zip(states, told, probes, strict=True):
                watch.real = probe.real
                layer(state, **given[number])
        yield layer, watch.means()
        states = [
            states_of(layer(state, **given[number]))
            for state, given in zip(states, told, strict=True)
        ]


def _caught(
    model: Any, probes: Sequence[Batch]
) -> tuple[list[torch.Tensor], list[list[dict[str, Any]]]]:
    """What reaches the first layer, and what every layer is told beside the states."""
    states: list[torch.Tensor] = []
    told: list[list[dict[str, Any]]] = []

    def note(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        told[-1].append(named)
        if len(told[-1]) == 1:
            states.append(given[0])

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers_of(model)]
    try:
        for probe in probes:
            told.append([])
            hidden(model, probe)
    finally:
        for hook in hooks:
            hook.remove()
    return states, told


class _Watch:
    """Sums the outer products of real tokens' inputs."""

    def __init__(self) -> None:
        self.real = torch.zeros(0, dtype=torch.bool)
        self.sums: Grams = {}
        self.tokens: dict[str, int] = {}

    def add(self, name: str, inputs: torch.Tensor) -> None:
        read = inputs[self.real].float()
        known = self.sums.get(name)
        product = read.T @ read
        self.sums[name] = product if known is None else known.add_(product)
        self.tokens[name] = self.tokens.get(name, 0) + len(read)

    def means(self) -> Grams:
        return {name: total / self.tokens[name] for name, total in self.sums.items()}


@contextmanager
def _watched(layer: torch.nn.Module, names: Sequence[str]) -> Iterator[_Watch]:
    watch = _Watch()
    hooks = []
    for name in names:

        def note(_module: Any, given: tuple[Any, ...], name: str = name) -> None:
            watch.add(name, given[0])

        hooks.append(layer.get_submodule(name).register_forward_pre_hook(note))
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()

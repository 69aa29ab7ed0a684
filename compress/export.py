"""Exports a model folder to the fast ONNX graph, and proves that it is the model.

Fused QKV, GroupQueryAttention, weights in the precision asked for. Knows nothing of adapters
(merge first) or of bots.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ..agent.destination import PARITY
from ..agent.errors import ConfigError
from ..agent.wide import RAGGED, TABLE, WIDE
from .architecture import Shape, shape_of
from .cache_scales import cache_scales
from .damage import finer_layers
from .graph import build_graph
from .material import shipped_material
from .measure import size_mb
from .model import write_atomically
from .nbits import round_graph
from .parity import PROMPTS, Parity, check_crowd, check_device, compare, failures, judge
from .precision import Precision, Quantization
from .steps import Task
from .wide import write_wide

__all__ = ["ExportFast", "Parity", "Precision", "Quantization", "export"]

_PASSAGES = 48
_SHOWN, _EVERY = 64, 8
"""Rows, and which of their prompts, that show what the norms of a model give: 40 prompts."""


@dataclass(frozen=True, slots=True)
class ExportFast(Quantization):
    """The step `export`: the generator folder that serving reads.

    `mixed` keeps so many layers in int8 where the rest is int4: those whose rounding moves the
    answers most (`damage.finer_layers`).
    """

    kind: ClassVar[str] = "export"
    mixed: int = 0

    def __post_init__(self) -> None:
        Quantization.__post_init__(self)
        if self.mixed < 0 or (self.mixed and (self.finer or self.precision != "int4")):
            raise ConfigError("mixed counts the int8 layers of an int4 model; leave finer out")

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves: the same.

        Raises:
            FeatherdeskError: the model lacks layers that are to be finer, or this machine cannot
                run the graph.
        """
        self.check(shape.layers)
        if self.mixed > shape.layers:
            raise ConfigError(
                f"export: mixed = {self.mixed}, but the model has {shape.layers} layers"
            )
        check_device(self)
        return shape

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write model.onnx, genai_config.json, tokenizer.json and parity.json."""
        texts = tuple(itertools.islice(task.material.passages(), _PASSAGES)) if self.kv else ()
        finer, sweep = self.finer, list[float]()
        if self.mixed:
            finer, sweep = finer_layers(source, task, self.mixed, block_size=self.block_size)
        parity = export(source, out, replace(self, finer=finer, mixed=0), texts=texts)
        told = {"size_mb": size_mb(out), "parity": asdict(parity), "finer": list(finer)}
        moved = {str(layer): float(f"{nats:.3g}") for layer, nats in enumerate(sweep)}
        return {**told, "layer_sweep": moved} if moved else told


def export(
    model: Path,
    out: Path,
    plan: Quantization | None = None,
    *,
    prompts: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Parity:
    """Write `out/model.onnx` with genai_config.json, tokenizer.json and parity.json.

    Parity is measured on `prompts`; `texts` tell, with them, the scales of an int8 cache.

    Raises:
        ConfigError: a setting does not fit the model.
        FeatherdeskError: the graph does not compute what the torch model does.
    """
    plan = plan or Quantization()
    plan.check(shape_of(model).layers)
    check_device(plan)
    parity: list[Parity] = []

    def write(folder: Path) -> None:
        _build(model, folder, plan, (*PROMPTS, *texts))
        parity.append(_compared(model, folder, plan, prompts or PROMPTS))
        judge(parity[0], plan)
        told = {**asdict(parity[0]), "quantization": asdict(plan)}
        (folder / PARITY).write_text(json.dumps(told, indent=1))

    write_atomically(out, write)
    return parity[0]


def _compared(model: Path, out: Path, plan: Quantization, prompts: Sequence[str]) -> Parity:
    """The parity of a folder, whose second graph goes where a model does not bear it."""
    found = compare(model, out, plan, prompts)
    if (out / WIDE).exists() and failures(found, plan):
        for name in (WIDE, TABLE, RAGGED):
            (out / name).unlink(missing_ok=True)
        found = compare(model, out, plan, prompts)
    if (out / RAGGED).exists():
        check_crowd(out)
    return found


def _build(model: Path, out: Path, plan: Quantization, texts: Sequence[str]) -> None:
    build_graph(model, out, plan, cache_scales(model, texts) if plan.kv else None)
    if plan.rounds:
        round_graph(out / "model.onnx", plan)
        if plan.provider == "cpu":
            wholes = shipped_material(_SHOWN).wholes()
            write_wide(out, (*texts, *itertools.islice(wholes, 0, None, _EVERY)))

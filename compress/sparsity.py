"""Sets weights of the decoder's matrices to zero: any of them, or two of every four neighbours.

Where that helps: on disk, through `compact` files, and with pattern 2:4 on NVIDIA GPUs from
Ampere on, whose tensor cores skip the zeros (`accelerate`, through torch). Where it does not: in
the int4 ONNX graph, in llama.cpp and on every CPU the zeros are stored and multiplied like other
weights, so neither memory nor time changes. Knows nothing of heads or channels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..agent.errors import ConfigError, DeviceError, FeatherdeskError
from .activations import Grams, walk
from .architecture import Shape, layers_of, shape_of
from .change import changed
from .compact import compact_bytes
from .forward import Batch
from .masks import by_magnitude, by_wanda, sparsegpt
from .methods import LINEAR
from .settings import one_of
from .steps import Task

__all__ = ["SPEED", "Sparsify", "accelerate", "check_sparse_cores", "keep_zeros", "zeros_of"]

SPEED = (
    "zeros save disk space in a compact file; they bring speed only as pattern 2:4 in fp16 or "
    "bf16 on NVIDIA tensor cores (Ampere and later), not on a CPU, in ONNX or in llama.cpp"
)
_PROBES = 8
_PARTS = tuple(
    f"{'mlp' if name in {'gate_proj', 'up_proj', 'down_proj'} else 'self_attn'}.{name}"
    for name in LINEAR
)
_SPARSE = 0.2
"""A matrix with at least this share of zeros was made sparse on purpose."""


@dataclass(frozen=True, slots=True)
class Sparsify:
    """The step `sparsity`: set a `share` of every decoder matrix to zero, or `pattern` "2:4".

    `by` is `magnitude` (needs no calibration data), `wanda` or `sparsegpt`. Embeddings, norms
    and the head stay whole.
    """

    kind: ClassVar[str] = "prune"
    share: float = 0.5
    pattern: str = ""
    by: str = "wanda"

    def __post_init__(self) -> None:
        one_of(("magnitude", "wanda", "sparsegpt"), by=self.by)
        one_of(("", "2:4"), pattern=self.pattern)
        if not 0 < self.share < 1:
            raise ConfigError(f"share is above 0 and below 1, not {self.share}")
        if self.pattern and self.share != 0.5:
            raise ConfigError(f"pattern 2:4 is a share of 0.5, not {self.share}; leave one out")

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves: the same.

        Raises:
            ConfigError: a side of a matrix cannot be cut into fours.
        """
        sides = (shape.hidden, shape.heads * shape.head_size, shape.channels)
        if self.pattern and any(side % 4 for side in sides):
            raise ConfigError(
                f"sparsity: pattern 2:4 needs sides that are multiples of 4, not {list(sides)}"
            )
        return shape

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the model with zeros; tells shares, sizes in bytes and the effect on answers."""
        self.fits(shape_of(source))
        measured = self.by != "magnitude"

        def change(model: Any, probes: Sequence[Batch]) -> Mapping[str, Any]:
            layers: Iterable[tuple[torch.nn.Module, Grams]] = (
                walk(model, probes, _PARTS, progress=task.progress, label="choosing zeros")
                if measured
                else ((layer, {}) for layer in layers_of(model))
            )
            for layer, grams in layers:
                self._change(layer, grams)
            return {"zeros": round(_zeros(model), 4)}

        told = changed(source, out, task, change, probes=_PROBES, needed=measured)
        sizes = compact_bytes(out)
        return {**told, "bytes": sizes.plain, "compact_bytes": sizes.compact, "speed": SPEED}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _change(self, layer: torch.nn.Module, grams: Grams) -> None:
        pattern = bool(self.pattern)
        for name in _PARTS:
            weight = layer.get_submodule(name).weight
            if self.by == "sparsegpt":
                weight.copy_(sparsegpt(weight, grams[name], self.share, pattern=pattern))
            elif self.by == "wanda":
                gone = by_wanda(weight, grams[name], self.share, pattern=pattern)
                weight.masked_fill_(gone, 0)
            else:
                weight.masked_fill_(by_magnitude(weight, self.share, pattern=pattern), 0)


def _zeros(model: Any) -> float:
    """The share of zeros in the decoder's matrices."""
    found = [layer.get_submodule(name).weight for layer in layers_of(model) for name in _PARTS]
    return sum(int((w == 0).sum()) for w in found) / sum(int(w.numel()) for w in found)


def zeros_of(model: Any) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """The decoder matrices that were made sparse, each with True where it is exactly zero."""
    found = []
    for layer in layers_of(model):
        for weight in layer.parameters():
            zero = weight.detach() == 0
            if weight.dim() == 2 and float(zero.float().mean()) >= _SPARSE:
                found.append((weight, zero))
    return found


@torch.no_grad()  # type: ignore[untyped-decorator]
def keep_zeros(zeros: Sequence[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
    """Set to zero again what `zeros_of` found: to be called after every optimizer step."""
    for weight, zero in zeros:
        weight.masked_fill_(zero, 0)


def check_sparse_cores() -> None:
    """See that there is an NVIDIA GPU whose tensor cores skip zeros: Ampere or later.

    Raises:
        DeviceError: there is none.
    """
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] < 8:
        raise DeviceError(f"no NVIDIA GPU with sparse tensor cores here; {SPEED}")


def accelerate(model: Any) -> int:
    """Put 2:4 matrices of a model on an NVIDIA GPU into the form its tensor cores skip zeros in.

    In place, for inference in fp16 or bf16; returns how many matrices. A gain is seen on large
    batches and wide matrices: reading a prompt, hardly when writing one token at a time.

    Raises:
        DeviceError: there is no such GPU.
        FeatherdeskError: nothing in the model is 2:4.
    """
    from torch.sparse import to_sparse_semi_structured

    check_sparse_cores()
    count = 0
    for layer in layers_of(model):
        for name in _PARTS:
            part: Any = layer.get_submodule(name)
            if _is_two_of_four(part.weight) and not any(side % 64 for side in part.weight.shape):
                sparse = to_sparse_semi_structured(part.weight.detach())
                part.weight = torch.nn.Parameter(sparse, requires_grad=False)
                count += 1
    if not count:
        raise FeatherdeskError(
            'no matrix is 2:4 with sides that are multiples of 64; use `pattern = "2:4"` first'
        )
    return count


def _is_two_of_four(weight: torch.Tensor) -> bool:
    if weight.shape[-1] % 4:
        return False
    return int((weight.detach().unflatten(-1, (-1, 4)) != 0).sum(-1).max()) <= 2

"""Rounds weights as the int4 export will: in blocks along the input, with scale and zero point.

The rounding of onnxruntime's MatMulNBits quantizer (asymmetric, round to nearest). Knows nothing
of files.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["rounded", "rounded_adapted", "rounded_weights"]


def rounded(weight: torch.Tensor, block_size: int, bits: int = 4) -> torch.Tensor:
    """`weight` (out, in) after quantizing and de-quantizing; the last block may be short.

    As in onnxruntime, a block whose weights have one sign gets no zero point beyond its levels,
    and so loses its far end; one of equal weights is rounded to whole numbers.
    """
    rows, columns = weight.shape
    missing = -columns % block_size
    padded = torch.nn.functional.pad(weight, (0, missing)) if missing else weight
    blocks = padded.view(rows, -1, block_size)
    low = blocks.amin(-1, keepdim=True)
    high = blocks.amax(-1, keepdim=True)
    levels = 2**bits - 1
    scale = torch.where(high > low, (high - low) / levels, torch.ones_like(low))
    zero = (-low / scale).round().clamp(0, levels)
    quantized = (blocks / scale + zero).round().clamp(0, levels)
    return ((quantized - zero) * scale).view(rows, -1)[:, :columns]


@contextmanager
def rounded_weights(model: Any, bits: int, block_size: int) -> Iterator[None]:
    """While it lasts, the matrices of the model hold rounded weights; then their own come back.

    Word vectors are rounded where the head shares them; others the export keeps as floats.

    A gradient taken meanwhile is that of the rounded weights and is given to the weights as they
    are: straight through. `bits` 0 does nothing.
    """
    if not bits:
        yield
        return
    linear = (m for m in model.modules() if isinstance(m, torch.nn.Linear))
    found = {id(m.weight): m.weight for m in linear}
    with _held(found.values()) as originals:
        with torch.no_grad():
            for weight, own in originals:
                weight.copy_(rounded(own, block_size, bits))
        yield


@contextmanager
def rounded_adapted(model: Any, bits: int, block_size: int) -> Iterator[None]:
    """`rounded_weights` of a PEFT model: while it lasts, a base matrix and its LoRA adapter come to
    the rounded weights of both merged; gradients are the adapter's, straight through.
    """
    if not bits:
        yield
        return
    layers = [m for m in model.modules() if hasattr(m, "get_delta_weight")]
    adapters = {id(part) for layer in layers for part in layer.modules()}
    plain = (m for m in model.modules() if isinstance(m, torch.nn.Linear) and id(m) not in adapters)
    found = {id(m.weight): m.weight for m in plain}
    with _held([*found.values(), *(layer.base_layer.weight for layer in layers)]) as originals:
        with torch.no_grad():
            for weight, own in originals[: len(found)]:
                weight.copy_(rounded(own, block_size, bits))
            for layer, (weight, own) in zip(layers, originals[len(found) :], strict=True):
                (name,) = layer.active_adapters
                change = layer.get_delta_weight(name).float()
                weight.copy_(rounded(own.float() + change, block_size, bits) - change)
        yield


@contextmanager
def _held(
    weights: Iterable[torch.Tensor],
) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Weights with copies of what they are; they are that again afterwards."""
    originals = [(weight, weight.detach().clone()) for weight in weights]
    try:
        yield originals
    finally:
        with torch.no_grad():
            for weight, own in originals:
                weight.copy_(own)

"""LoRA layers that compute base and adapter together, for training.

PEFT writes an adapter's output, its scaled copy and the sum beside the base's, and the same again
on the way back: six passes over activations that are far larger than the adapter. Here both
products are added into the base's own result. The arithmetic is that of LoRA (Hu et al., arXiv
2106.09685); weights stay where PEFT keeps them. Knows nothing of rows or of optimizers.
"""

from functools import partial
from typing import Any

import torch

__all__ = ["fuse"]


class _LowRank(torch.autograd.Function):  # type: ignore[misc]
    """x W^T + bias + scale (x A^T) B^T, where only x, A and B learn.

    x is (..., in), W (out, in), A (rank, in), B (out, rank); A and B may be of a finer dtype than
    x, and so are their gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.flatten(0, -2)
        near, far = down.to(x.dtype), up.to(x.dtype)
        inner = flat @ near.T
        out = torch.nn.functional.linear(flat, weight, bias)
        out.addmm_(inner, far.T, alpha=scale)
        ctx.save_for_backward(flat, inner, weight, near, far)
        ctx.scale, ctx.dtype = scale, down.dtype
        return out.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, inner, weight, near, far = ctx.saved_tensors
        given = grads[0].flatten(0, -2)
        within = (given @ far).mul_(ctx.scale)
        back = None
        if ctx.needs_input_grad[0]:
            back = given @ weight
            back = back.addmm_(within, near).unflatten(0, grads[0].shape[:-1])
        to_down = (within.T @ flat).to(ctx.dtype)
        to_up = (given.T @ inner).to(ctx.dtype).mul_(ctx.scale)
        return back, None, None, to_down, to_up, None


def _forward(layer: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    base = layer.base_layer
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    return torch.as_tensor(_LowRank.apply(x, base.weight, base.bias, down, up, layer.scaling[name]))


def fuse(model: Any) -> int:
    """Let the plain LoRA layers of a PEFT model compute as above; returns how many.

    Layers with dropout, of DoRA, or over anything but a plain matrix keep PEFT's own way.
    """
    from peft.tuners.lora import Linear

    count = 0
    for layer in model.modules():
        if not isinstance(layer, Linear) or type(layer.base_layer) is not torch.nn.Linear:
            continue
        name, *more = layer.active_adapters
        plain = isinstance(layer.lora_dropout[name], torch.nn.Identity) and not layer.lora_variant
        if more or not plain or name not in layer.lora_A:
            continue
        layer.forward = partial(_forward, layer, name)
        count += 1
    return count

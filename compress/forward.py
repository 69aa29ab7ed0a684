"""Forward passes over packed rows: batches with their mask, hidden states, log-probabilities.

Knows nothing of what is learned or cut.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .dataset import Encoded, mask
from .methods import has_bf16

__all__ = [
    "Batch",
    "answer_logits",
    "answers",
    "batch_of",
    "divergence",
    "divergences",
    "doubt_of",
    "evened",
    "hidden",
    "hidden_through",
    "in_view",
    "log_probabilities",
    "logits_at",
    "mean_divergence",
    "mixed",
    "states_of",
]

STRIDE = 64
"""Sequences are padded to a multiple of it: memory grows with every new shape."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids`, `positions`, `labels` (b, n), additive `bias` (b, 1, n, n); `real` marks no padding.

    `targets` are flat places (in b * n) of the answer tokens; what predicts one stands before it.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    bias: torch.Tensor
    real: torch.Tensor
    targets: torch.Tensor

    @property
    def firsts(self) -> torch.Tensor:
        """Which targets are the first token of an answer: shape (targets,)."""
        return self.labels.flatten()[self.targets - 1] == -100

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def batch_of(sequences: Sequence[Encoded], size: int = 0) -> Batch:
    """Pad sequences to `size`, or to the longest of them; padding sees only itself."""
    count = len(sequences)
    size = size or math.ceil(max(len(s) for s in sequences) / STRIDE) * STRIDE
    ids = np.zeros((count, size), np.int64)
    positions = np.zeros((count, size), np.int64)
    labels = np.full((count, size), -100, np.int64)
    seen = np.repeat(np.eye(size, dtype=bool)[None], count, 0)
    real = np.zeros((count, size), bool)
    for place, sequence in enumerate(sequences):
        n = len(sequence)
        ids[place, :n] = sequence.ids
        positions[place, :n] = sequence.positions
        labels[place, :n] = sequence.labels
        seen[place, :n, :n] = mask(sequence)
        real[place, :n] = True
    flat = torch.from_numpy(labels).flatten()
    bias = torch.zeros(seen.shape).masked_fill(
        ~torch.from_numpy(seen), torch.finfo(torch.float32).min
    )
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(labels),
        bias[:, None],
        torch.from_numpy(real),
        torch.nonzero(flat != -100).squeeze(1),
    )


def in_view(sequences: Sequence[Encoded]) -> list[Encoded]:
    """The same with every entry in view of those behind it."""
    return [replace(one, block=np.zeros_like(one.block)) for one in sequences]


def mixed(device: torch.device | None = None) -> Any:
    """A context that computes in bf16 where the device does."""
    device = device or torch.device("cpu")
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))


def hidden(model: Any, batch: Batch) -> torch.Tensor:
    """What the last layer leaves, normed: shape (b, n, hidden)."""
    decoder = model.get_decoder()
    dtype = _computes_in(decoder)
    told = decoder(
        input_ids=batch.ids,
        position_ids=batch.positions,
        # The lowest fp32 is -inf in bf16, and a fused kernel may meet a row of nothing else.
        attention_mask=batch.bias.clamp(min=torch.finfo(dtype).min).to(dtype),
        use_cache=False,
    )
    return torch.as_tensor(told.last_hidden_state)


def hidden_through(model: Any, batch: Batch) -> list[torch.Tensor]:
    """The states before the first layer and behind each one (the last one without norm)."""
    decoder = model.get_decoder()
    found: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: found.append(states_of(out)))
        for layer in decoder.layers
    ]
    hooks.append(
        decoder.layers[0].register_forward_pre_hook(lambda _m, given: found.append(given[0]))
    )
    try:
        hidden(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def log_probabilities(model: Any, batch: Batch) -> torch.Tensor:
    """What the model says of every answer token's place: shape (targets, vocabulary), fp32."""
    return torch.log_softmax(answer_logits(model, batch, batch.targets), -1)


def answer_logits(model: Any, batch: Batch, targets: torch.Tensor) -> torch.Tensor:
    """Logits at flat places before `targets` and nowhere else: shape (targets, vocabulary), fp32.

    Of 106 million weights of SmolLM2-135M's layers and 28 million of its head, a token that no
    loss is taken of needs only the former.
    """
    return logits_at(model, hidden(model, batch), targets)


def logits_at(model: Any, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """`answer_logits` of what `hidden` left: shape (targets, vocabulary), fp32."""
    return _capped(model, model.lm_head(states.flatten(0, 1)[targets - 1]).float())


def evened(batch: Batch, multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The targets' places, filled up to a multiple, and 1 or 0: whether they count.

    On CPU every new number of rows costs a matrix kernel that is kept for good: 30 MB a step.
    """
    places = batch.targets
    missing = -len(places) % multiple
    counted = torch.ones(len(places) + missing, device=places.device)
    counted[len(places) :] = 0
    return torch.cat([places, places[-1:].expand(missing)]), counted


def divergences(model: Any, batch: Batch, parent: Any, read: Batch | None = None) -> torch.Tensor:
    """KL(parent || model) of every answer token, in nats: shape (targets,).

    `read` is what the parent reads, if its mask is another.
    """
    wanted, told = log_probabilities(parent, read or batch), log_probabilities(model, batch)
    return torch.nn.functional.kl_div(told, wanted, log_target=True, reduction="none").sum(-1)


def divergence(model: Any, batch: Batch, wanted: torch.Tensor) -> float:
    """Mean KL(wanted || model) a token of the answers, in nats."""
    told = log_probabilities(model, batch)
    return float(torch.nn.functional.kl_div(told, wanted, log_target=True, reduction="batchmean"))


@torch.no_grad()  # type: ignore[untyped-decorator]
def doubt_of(told: torch.Tensor, token: int) -> torch.Tensor:
    """Log-odds of a token (n,) of log-probabilities (n, vocabulary), bent to stay within 8."""
    others = told.clone()
    others[:, token] = -math.inf
    return 8 * torch.tanh((told[:, token] - torch.logsumexp(others, -1)) / 8)


def answers(model: Any, probes: Sequence[Batch]) -> list[torch.Tensor]:
    """What the model says in every probe: what a changed one is compared with."""
    with mixed():
        return [log_probabilities(model, probe) for probe in probes]


@torch.no_grad()  # type: ignore[untyped-decorator]
def mean_divergence(model: Any, probes: Sequence[Batch], wanted: Sequence[torch.Tensor]) -> float:
    """Mean divergence (nats a token) from `wanted`, what `answers` told of the same probes."""
    with mixed():
        found = [divergence(model, *pair) for pair in zip(probes, wanted, strict=True)]
    return sum(found) / len(found)


def _capped(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Gemma's soft cap, where a configuration asks for one."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def _computes_in(module: torch.nn.Module) -> torch.dtype:
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return torch.bfloat16
    return next(module.parameters()).dtype


def states_of(out: Any) -> torch.Tensor:
    """What a decoder layer leaves: the first of the things it returns, where they are many."""
    return torch.as_tensor(out[0] if isinstance(out, tuple) else out)

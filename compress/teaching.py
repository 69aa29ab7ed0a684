"""What a model learns from its parent: its words, its doubt, what its last layer sees.

Knowledge distillation (Hinton et al., arXiv 1503.02531), with hidden states after Muralidharan et
al., "Minitron", arXiv 2407.14679. The parent may have entries in view that the model reads each by
itself (block attention, arXiv 2409.15355). Knows nothing of optimizers or of data.
"""

import torch

from .forward import Batch, doubt_of

__all__ = ["doubt_gap", "states_gap", "words_gap"]


def words_gap(told: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """KL(wanted || told) of every row, in nats: (n,) of log-probabilities (n, vocabulary)."""
    return torch.nn.functional.kl_div(told, wanted, log_target=True, reduction="none").sum(-1)


def doubt_gap(told: torch.Tensor, wanted: torch.Tensor, refusal: int) -> torch.Tensor:
    """How far the log-odds of a refusal's first token lie apart: (n,) of log-probabilities.

    Thresholds lie where divergence hardly sees them.
    """
    ours, theirs = (doubt_of(one, refusal) for one in (told, wanted))
    return torch.nn.functional.smooth_l1_loss(ours, theirs, reduction="none")


def states_gap(
    states: torch.Tensor, seen: torch.Tensor, batch: Batch, whole: Batch
) -> torch.Tensor:
    """Squared distance of states (b, n, hidden) from the parent's, as a share of its length: the
    mean over tokens whose view is the same in what both read, `batch` and `whole`."""
    alike = (batch.bias == whole.bias).all(-1).squeeze(1) & batch.real
    real = alike.flatten().float()
    states, seen = (one.flatten(0, 1).float() for one in (states, seen))
    far = (states - seen).pow(2).sum(-1) / seen.pow(2).sum(-1).clamp(min=1e-9)
    return (far * real).sum() / real.sum()

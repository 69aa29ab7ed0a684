"""Cuts rows and columns out of linear layers, and fits what is left to what was there.

Knows nothing of heads, channels or layers.
"""

from collections.abc import Sequence

import torch

__all__ = ["keep_columns", "keep_rows", "refit"]

_DAMPING = 0.01


def keep_rows(linear: torch.nn.Linear, rows: Sequence[int]) -> None:
    """Leave only some outputs, in the order given; a bias follows."""
    place = torch.tensor(rows)
    linear.weight = torch.nn.Parameter(linear.weight.detach()[place].clone())
    if linear.bias is not None:
        linear.bias = torch.nn.Parameter(linear.bias.detach()[place].clone())
    linear.out_features = len(rows)


def keep_columns(
    linear: torch.nn.Linear, columns: Sequence[int], gram: torch.Tensor | None = None
) -> None:
    """Leave only some inputs, in the order given.

    With `gram`, the mean outer product of the inputs (in, in), the columns that stay take over
    what they can of those that go.
    """
    weight = linear.weight.detach()
    fresh = weight[:, torch.tensor(columns)] if gram is None else refit(weight, gram, columns)
    linear.weight = torch.nn.Parameter(fresh.clone().to(weight.dtype))
    linear.in_features = len(columns)


def refit(weight: torch.Tensor, gram: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """The kept `columns` of `weight` (out, in), moved by damped least squares.

    They say as much of the old output on the calibration inputs as they can: W[:, k] +
    W[:, g] G[g, k] (G[k, k] + damping)^-1, where k stays and g goes. Columns that were zero, or
    whose inputs were, change nothing.
    """
    kept = torch.tensor(columns)
    stays = torch.zeros(weight.shape[1], dtype=torch.bool)
    stays[kept] = True
    gone = torch.nonzero(~stays).squeeze(1)
    wide = gram.double()
    among = wide[kept][:, kept]
    damping = _DAMPING * float(among.diagonal().mean()) + 1e-12
    among.diagonal().add_(damping)
    taken = torch.linalg.solve(among, wide[kept][:, gone])
    moved = weight[:, kept].double() + weight[:, gone].double() @ taken.T
    return moved.to(weight.dtype)

"""Decides which weights of a matrix become zero: by magnitude, Wanda or SparseGPT.

Wanda: Sun et al., arXiv 2306.11695. SparseGPT: Frantar and Alistarh, arXiv 2301.00774. Pure
tensor arithmetic; knows nothing of models or files.
"""

import torch

__all__ = ["by_magnitude", "by_wanda", "sparsegpt", "two_of_four"]

_BLOCK = 128
_DAMPING = 0.01


def by_magnitude(weight: torch.Tensor, share: float, *, pattern: bool = False) -> torch.Tensor:
    """True where a weight (out, in) goes: the smallest of the whole matrix, or two of each four."""
    sizes = weight.abs()
    if pattern:
        return two_of_four(sizes)
    return _lowest(sizes.flatten()[None], share).view(weight.shape)


def by_wanda(
    weight: torch.Tensor, gram: torch.Tensor, share: float, *, pattern: bool = False
) -> torch.Tensor:
    """True where a weight goes: the smallest |weight| * norm of its input, row by row.

    `gram` (in, in) is the mean outer product of the inputs.
    """
    scores = weight.abs() * gram.diagonal().clamp(min=0).sqrt()
    return two_of_four(scores) if pattern else _lowest(scores, share)


def two_of_four(scores: torch.Tensor) -> torch.Tensor:
    """True at the two lowest of every four neighbours along the last axis."""
    fours = scores.unflatten(-1, (-1, 4))
    lowest = fours.argsort(dim=-1, stable=True)[..., :2]
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, lowest, True).flatten(-2)


def _lowest(scores: torch.Tensor, share: float) -> torch.Tensor:
    """True at the lowest `share` of each row, counted exactly."""
    lowest = scores.argsort(dim=-1, stable=True)[:, : round(scores.shape[-1] * share)]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, lowest, True)


def sparsegpt(
    weight: torch.Tensor, gram: torch.Tensor, share: float, *, pattern: bool = False
) -> torch.Tensor:
    """The matrix with zeros, each column's loss moved into the columns to its right.

    Goes through blocks of 128 columns; a block chooses its own zeros by w^2 / H^-1.
    """
    fresh = weight.double().clone()
    upper = _inverse_root(gram)
    for start in range(0, fresh.shape[1], _BLOCK):
        end = min(start + _BLOCK, fresh.shape[1])
        block, part = fresh[:, start:end], upper[start:end, start:end]
        gone = torch.zeros_like(block, dtype=torch.bool)
        if not pattern:
            scores = (block / part.diagonal()).square()
            gone = _lowest(scores.flatten()[None], share).view(block.shape)
        errors = torch.zeros_like(block)
        for column in range(end - start):
            if pattern and column % 4 == 0:
                four = slice(column, column + 4)
                gone[:, four] = two_of_four((block[:, four] / part.diagonal()[four]).square())
            errors[:, column] = block[:, column] * gone[:, column] / part[column, column]
            block[:, column:] -= errors[:, column, None] * part[column, column:]
            block[:, column].masked_fill_(gone[:, column], 0)
        fresh[:, end:] -= errors @ upper[start:end, end:]
    return fresh.to(weight.dtype)


def _inverse_root(gram: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the damped inverse of `gram`."""
    wide = gram.double().clone()
    damping = _DAMPING * float(wide.diagonal().mean())
    wide.diagonal().add_(damping if damping > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(wide))
    return torch.linalg.cholesky(inverse, upper=True)

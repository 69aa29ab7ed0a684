"""Which of several candidates no other beats in everything. Knows nothing of models."""

from collections.abc import Sequence

__all__ = ["dominates", "front"]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere larger than `other`, and somewhere smaller."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Places of the candidates that none dominates; every cost is better when smaller."""
    return [
        place
        for place, one in enumerate(costs)
        if not any(dominates(other, one) for other in costs)
    ]

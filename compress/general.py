"""General English to keep a model from forgetting: given texts, else Python's own documentation.

Every Python carries the latter (`pydoc_data.topics`, PSF licence). Knows nothing of models.
"""

import random
from collections.abc import Sequence

__all__ = ["general_text"]

_SHORT = 200


def general_text(given: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Passages to learn from, and others to measure forgetting by; never the same ones."""
    given = list(dict.fromkeys(given))
    passages = given if len(given) >= 20 else list(dict.fromkeys(_documentation()))
    random.Random(seed).shuffle(passages)
    held = max(1, len(passages) // 10)
    return passages[held:], passages[:held]


def _documentation() -> list[str]:
    from pydoc_data.topics import topics

    return [
        " ".join(passage.split())
        for _, text in sorted(topics.items())
        for passage in text.split("\n\n")
        if len(passage) >= _SHORT and "|" not in passage
    ]

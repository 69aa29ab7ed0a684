"""Scales for keys and values kept in a byte each: one a channel, from the largest value seen.

Knows nothing of graphs.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from .architecture import open_model
from .model import load_tokenizer

__all__ = ["cache_scales"]

_LEVELS = 127
_ROOM = 1.1
"""Values a little larger than those seen still fit."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def cache_scales(
    folder: Path, texts: Iterable[str], length: int = 320
) -> dict[str, list[list[float]]]:
    """Key and value scales by layer, each of KV heads * head size numbers.

    Keys are measured as they are kept: turned by their position.
    """
    model = open_model(folder)
    tokenizer = load_tokenizer(folder)
    found: dict[str, list[torch.Tensor]] = {"k_scales": [], "v_scales": []}
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids[:length]
        if not ids:
            continue
        kept = model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
        for number, layer in enumerate(kept.layers):
            for name, values in (("k_scales", layer.keys), ("v_scales", layer.values)):
                most = values[0].abs().amax(1).flatten()
                if number == len(found[name]):
                    found[name].append(most)
                found[name][number] = torch.maximum(found[name][number], most)
    return {
        name: [(most * _ROOM / _LEVELS).clamp(min=1e-6).tolist() for most in layers]
        for name, layers in found.items()
    }

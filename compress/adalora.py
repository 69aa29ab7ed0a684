"""Reads which layers an AdaLoRA adapter found worth its ranks.

AdaLoRA (Zhang et al., arXiv 2303.10512) moves a budget of ranks to where the loss gains most: a
layer that kept few of them had little to learn for the bot's questions. Knows nothing of models.
"""

import json
import re
from pathlib import Path

from ..agent.errors import ConfigError

__all__ = ["layer_ranks", "module_ranks"]

_PLACE = re.compile(r"layers\.(\d+)\.(.+?)\.lora_E")


def module_ranks(adapter: Path) -> dict[tuple[int, str], int]:
    """Ranks kept by layer and module (`self_attn.q_proj`), from adapter_config.json.

    Raises:
        ConfigError: the folder holds no AdaLoRA adapter, or one that ended before it gave ranks.
    """
    path = adapter / "adapter_config.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        kind = told.get("peft_type")
        pattern = told.get("rank_pattern")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{adapter} is not an adapter folder: {error}") from None
    if kind != "ADALORA":
        raise ConfigError(
            f"{adapter} is an adapter of kind {kind}; only AdaLoRA learns ranks: "
            "featherdesk finetune --method adalora"
        )
    found = {}
    for name, ranks in (pattern or {}).items():
        place = _PLACE.search(name)
        if place:
            count = sum(ranks) if isinstance(ranks, list) else int(ranks)
            found[int(place[1]), place[2]] = int(count)
    if not found:
        raise ConfigError(f"{adapter} holds no ranks: its training ended too early; train longer")
    return found


def layer_ranks(adapter: Path) -> dict[int, int]:
    """Ranks kept in each layer that the adapter touches.

    Raises:
        ConfigError: as for `module_ranks`.
    """
    found: dict[int, int] = {}
    for (layer, _), count in module_ranks(adapter).items():
        found[layer] = found.get(layer, 0) + count
    return found

"""Which model architectures can be compressed, and where their parts lie.

All of them are decoders in transformers' naming: `model.layers[i].self_attn.{q,k,v,o}_proj` and
`mlp.{gate,up,down}_proj`. Knows nothing of what is cut or why.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..agent.errors import CatalogError
from .compact import is_compact
from .model import read_weights, write_atomically

__all__ = [
    "SUPPORTED",
    "Shape",
    "configure",
    "layers_of",
    "open_model",
    "save_model",
    "shape_of",
]

SUPPORTED = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3")


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder: `heads` query heads share `kv_heads` of `head_size` each."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    channels: int
    vocabulary: int
    tied: bool

    @property
    def group(self) -> int:
        """Query heads a KV head."""
        return self.heads // self.kv_heads


def shape_of(folder: Path) -> Shape:
    """The shape a model folder's config.json tells.

    Raises:
        CatalogError: no model folder, or an architecture that is not supported.
    """
    path = folder / "config.json"
    if not folder.is_dir() or not path.exists():
        raise CatalogError(f"{folder} is not a model folder: it has no config.json")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        kind = str(told["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{path} is damaged ({error}); fetch or save the model anew") from None
    if kind not in SUPPORTED:
        raise CatalogError(
            f"{folder}: the architecture {kind!r} cannot be compressed; supported are "
            f"{', '.join(SUPPORTED)}"
        )
    if is_compact(folder):
        raise CatalogError(
            f"{folder} is a compact folder; `featherdesk prune {folder} --out PLAIN` opens it"
        )
    if not any(folder.glob("*.safetensors")):
        raise CatalogError(
            f"{folder} holds no *.safetensors: it is half-written or in another format; "
            "save it with save_pretrained(safe_serialization=True)"
        )
    try:
        heads = int(told["num_attention_heads"])
        return Shape(
            architecture=kind,
            layers=int(told["num_hidden_layers"]),
            hidden=int(told["hidden_size"]),
            heads=heads,
            kv_heads=int(told.get("num_key_value_heads") or heads),
            head_size=int(told.get("head_dim") or told["hidden_size"] // heads),
            channels=int(told["intermediate_size"]),
            vocabulary=int(told["vocab_size"]),
            tied=bool(told.get("tie_word_embeddings", kind in {"gemma3_text", "smollm3"})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogError(f"{path} lacks {error}; it does not describe a {kind} model") from None


def open_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A causal LM for compression, in evaluation mode.

    Raises:
        CatalogError: the folder is no supported model.
        FeatherdeskError: its weights cannot be read or do not fit into memory.
    """
    shape_of(folder)
    return read_weights(folder, dtype=dtype, attn_implementation="sdpa").eval()


def layers_of(model: Any) -> torch.nn.ModuleList:
    """The decoder layers, first to last."""
    return model.get_decoder().layers


def configure(model: Any, **values: int) -> None:
    """Set values in the configurations of a causal LM and of its decoder, which may be two."""
    for config in (model.config, model.get_decoder().config):
        for name, value in values.items():
            setattr(config, name, value)


def save_model(model: Any, source: Path, out: Path) -> None:
    """Save a model as a whole folder, with `source`'s tokenizer and template.

    A half-written folder never takes the place of `out`.
    """

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (source / name).exists():
                shutil.copy(source / name, folder / name)
        for path in source.glob("*.jinja"):
            shutil.copy(path, folder / path.name)

    write_atomically(out, write)

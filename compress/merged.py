"""A model folder with its adapter merged in, checked before an exporter takes it.

Says early what an exporter could not use: an architecture that is not known, a missing or foreign
tokenizer, an adapter of another base. Knows no export format.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..agent.destination import PARITY, check_destination
from ..agent.errors import CatalogError
from ..agent.generators import check_adapter
from .architecture import open_model, shape_of
from .model import load_tokenizer, merge

__all__ = [
    "Notify",
    "logits_of",
    "merged",
    "probes",
    "proved",
    "settings",
    "weight_files",
]

Notify = Callable[[str], None]

_PROBES = (
    "Q: How long does delivery take?\nA: Delivery takes 3 to 5 working days and costs £4.95.\n",
    "No, worn boots cannot be returned after 30 days; unworn ones can, until 12 May 2025.\n",
    "Der Laden in der Mühlgasse 14 öffnet um 9:30 Uhr; 周末不营业。",
)
_LOW_RANK = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.weight)?")


@contextmanager
def merged(model: Path, adapter: Path | None, out: Path, notify: Notify) -> Iterator[Path]:
    """The folder to export: `model` itself, or model and adapter merged for as long as it lasts.

    Raises:
        CatalogError: no supported model, no tokenizer that fits it, or another base's adapter.
        ConfigError: `out` is a place that must not be written; see `check_destination`.
        FeatherdeskError: the merged model is not base + adapter.
    """
    shape_of(model)
    _check_tokenizer(model)
    check_destination(out, model, adapter)
    if adapter is None:
        yield model
        return
    _check_fits(model, adapter)
    check_adapter(str(model), adapter)
    notify(f"merging {adapter.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-merged-", dir=out.parent) as scratch:
        merge(model, adapter, Path(scratch) / "model")
        yield Path(scratch) / "model"


def settings(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder; empty when the file is not there.

    Raises:
        CatalogError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CatalogError(f"{path} is damaged ({error}); fetch or save it anew") from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model's weights, the index of shards with them."""
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    names = sorted(set(settings(index).get("weight_map", {}).values()))
    if not names or not all((folder / name).exists() for name in names):
        raise CatalogError(
            f"{folder} holds neither model.safetensors nor every shard of its index; save it with "
            "save_pretrained(safe_serialization=True)"
        )
    return [*(folder / name for name in names), index]


def proved(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Write what was proved of an export beside it, as parity.json; returns it."""
    (folder / PARITY).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return told


def probes(folder: Path) -> list[list[int]]:
    """Token ids of fixed texts in more than one language."""
    tokenizer = load_tokenizer(folder)
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in _PROBES]


def logits_of(folder: Path, prompts: list[list[int]]) -> list[NDArray[np.float32]]:
    """torch's logits in fp32 for every position of every prompt: (tokens, vocabulary) each."""
    import torch

    model = open_model(folder)
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0].numpy() for ids in prompts]


def _check_tokenizer(model: Path) -> None:
    try:
        tokenizer: Tokenizer = load_tokenizer(model)
    except CatalogError:
        raise
    except Exception as error:  # noqa: BLE001 - tokenizers raises plain Exception
        raise CatalogError(f"{model / 'tokenizer.json'} is damaged: {error}") from None
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    rows = shape_of(model).vocabulary
    if highest >= rows:
        raise CatalogError(
            f"{model / 'tokenizer.json'} is another model's: it has a token {highest}, the model "
            f"knows {rows}; copy the tokenizer that the model was trained with"
        )


def _check_fits(model: Path, adapter: Path) -> None:
    """Compare the adapter's matrices with the layers they belong to."""
    told = settings(adapter / "adapter_config.json")
    file = adapter / "adapter_model.safetensors"
    if not told or not file.exists():
        raise CatalogError(
            f"{adapter} is not an adapter folder: it needs adapter_config.json and "
            "adapter_model.safetensors"
        )
    if told.get("peft_type") not in {"LORA", "ADALORA"}:
        raise CatalogError(
            f"{adapter}: an adapter of kind {told.get('peft_type')} cannot be merged; "
            "LORA and ADALORA can"
        )
    known: dict[str, tuple[int, ...]] = {}
    for weights in weight_files(model):
        if weights.suffix == ".safetensors":
            known.update(_shapes(weights))
    found = 0
    for name, shape in _shapes(file).items():
        match = _LOW_RANK.fullmatch(name)
        if match is None:
            continue
        found += 1
        _check_side(match["module"], match["side"], shape, known, adapter, model)
    if not found:
        raise CatalogError(f"{file} holds no low-rank matrices; train the adapter anew")


def _check_side(
    module: str,
    side: str,
    shape: tuple[int, ...],
    known: Mapping[str, tuple[int, ...]],
    adapter: Path,
    model: Path,
) -> None:
    whole = known.get(f"{module}.weight")
    own = shape[1] if side == "A" else shape[0]
    if whole is None or own != (whole[1] if side == "A" else whole[0]):
        theirs = "is not there" if whole is None else f"is {whole[0]} x {whole[1]}"
        raise CatalogError(
            f"{adapter} was trained on another base: its {module} has {own} "
            f"{'inputs' if side == 'A' else 'outputs'}, in {model} it {theirs}; "
            "name the adapter's own base"
        )


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file, from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CatalogError(f"{file} is damaged: {error}; fetch or save it anew") from None

"""Loads base models and tokenizers, merges adapters, and proves that the merge is right.

Knows nothing of training or of export formats.
"""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer

from ..agent.artifacts import atomic_folder
from ..agent.errors import CatalogError, FeatherdeskError
from ..agent.resources import out_of_memory

__all__ = [
    "copy_tokenizer",
    "load_model",
    "load_tokenizer",
    "merge",
    "read_weights",
    "write_atomically",
]

MERGE_TOLERANCE = 1e-3


def load_model(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    *,
    four_bit: bool = False,
) -> Any:
    """A causal LM of a Hugging Face folder; `four_bit` loads NF4 weights (QLoRA).

    Raises:
        FeatherdeskError: see `read_weights`.
    """
    from transformers import BitsAndBytesConfig

    if not (folder / "config.json").exists():
        raise CatalogError(f"{folder} is not a model folder: it has no config.json")
    quantization = (
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        if four_bit
        else None
    )
    model = read_weights(
        folder, dtype=dtype, attn_implementation="eager", quantization_config=quantization
    )
    return model if four_bit else model.to(device or torch.device("cpu"))


def read_weights(folder: Path, **options: Any) -> Any:
    """A causal LM with all its weights; `options` are those of transformers' `from_pretrained`.

    Raises:
        CatalogError: a file is damaged, or tensors are missing.
        FeatherdeskError: it does not fit into memory, or cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **options
        )
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            raise FeatherdeskError(
                f"{folder} does not fit into memory; close other programs, or take a smaller model"
            ) from None
        raise FeatherdeskError(f"{folder} cannot be loaded: {error}") from None
    except (OSError, ValueError, SafetensorError) as error:  # a truncated file
        raise CatalogError(f"{folder} cannot be loaded: {error}") from None
    missing = sorted(told["missing_keys"])
    if missing:  # transformers would go on with chance weights
        raise CatalogError(
            f"{folder} lacks {len(missing)} tensors, such as {missing[0]}; fetch or save it anew"
        )
    return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, read from its tokenizer.json, without added tokens that
    the model has no row for: Gemma 3's text models come with one for pictures."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise CatalogError(f"{folder} has no tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises nothing narrower
        raise CatalogError(f"{path} cannot be read ({error}); fetch or save it anew") from None
    rows = _rows(folder)
    if not rows or max(tokenizer.get_vocab().values(), default=0) < rows:
        return tokenizer
    told = json.loads(tokenizer.to_str())
    told["added_tokens"] = [one for one in told["added_tokens"] if one["id"] < rows]
    return Tokenizer.from_str(json.dumps(told))


def _rows(folder: Path) -> int:
    """The rows of the word vectors by config.json; 0 where it does not tell."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return int(told.get("vocab_size") or 0)
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def copy_tokenizer(source: Path, target: Path) -> None:
    """Put tokenizer.json into another folder: as it is, or without the tokens that `load_tokenizer`
    leaves out."""
    path = source / "tokenizer.json"
    tokenizer = load_tokenizer(source)
    if tokenizer.get_vocab_size() == Tokenizer.from_file(str(path)).get_vocab_size():
        shutil.copy(path, target / path.name)
    else:
        tokenizer.save(str(target / path.name))


@torch.no_grad()  # type: ignore[untyped-decorator]
def merge(base: Path, adapter: Path, out: Path) -> float:
    """Merge an adapter into its base and save the result; returns the largest logit difference.

    Logits of base + adapter and of the merged model are compared on fixed ids, shape (2, 48).

    Raises:
        FeatherdeskError: they differ by more than `MERGE_TOLERANCE` of the logits' spread, or the
            adapter is damaged or of another base.
    """
    model = _adapted(base, adapter)
    vocabulary = model.config.vocab_size
    ids = torch.randint(0, vocabulary, (2, 48), generator=torch.Generator().manual_seed(5))
    before = model(input_ids=ids).logits
    merged = model.merge_and_unload().eval()
    after = merged(input_ids=ids).logits
    difference = float((before - after).abs().max())
    spread = float(before.std())
    if not difference <= MERGE_TOLERANCE * spread:
        raise FeatherdeskError(
            f"the merged model is not base + adapter: logits differ by {difference:.4f} "
            f"at a spread of {spread:.2f}; do not use {adapter}"
        )

    def write(folder: Path) -> None:
        merged.save_pretrained(folder)
        for path in base.iterdir():
            if path.suffix in {".json", ".jinja"} and not (folder / path.name).exists():
                shutil.copy(path, folder / path.name)

    write_atomically(out, write)
    return difference


def _adapted(base: Path, adapter: Path) -> Any:
    """The base with its adapter, not merged."""
    from peft import PeftModel

    model = load_model(base)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The following rank_pattern keys")  # AdaLoRA, 0.21
            return PeftModel.from_pretrained(model, adapter).eval()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise FeatherdeskError(
            f"{adapter} is damaged, or no adapter of {base}: {error}; name the base it was trained "
            "on, or train it anew"
        ) from None


def write_atomically(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder that takes the place of `folder`, as in `atomic_folder`.

    Raises:
        FeatherdeskError: the disk is full or the place cannot be written.
    """
    with atomic_folder(folder) as fresh:
        try:
            write(fresh)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(str(error)) from None

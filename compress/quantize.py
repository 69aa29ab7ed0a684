"""Quantized weights in torch, through bitsandbytes: for serving on CUDA and for QLoRA.

NF4: Dettmers et al., "QLoRA", arXiv 2305.14314; LLM.int8: arXiv 2208.07339. Weights that are not
matrices, and the output head, stay as they are. Knows nothing of ONNX.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..agent.artifacts import atomic_folder
from ..agent.errors import CatalogError, ConfigError, FeatherdeskError, MissingExtraError
from ..agent.resources import out_of_memory
from .architecture import shape_of
from .huggingface import generation_settings, plain, write_tokenizer
from .measure import size_mb
from .merged import Notify, logits_of, merged, probes, proved, settings

__all__ = ["KINDS", "export_quantized", "load_quantized"]

KINDS = ("nf4", "int8")
_SAVED = 1e-3
"""How far logits of the saved model may be from those of the one that was saved."""
_ALIKE = 0.8
"""The least correlation of logits with those of the whole model; of wrong layers it is about 0."""


def load_quantized(
    folder: Path,
    kind: str,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | None = None,
) -> Any:
    """A causal LM with `nf4` or `int8` matrices that computes in `dtype`, in evaluation mode.

    It generates as any model of transformers does, and takes a LoRA adapter of peft.

    Raises:
        ConfigError: the kind is unknown.
        CatalogError: the folder is no supported model.
        MissingExtraError: bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    if kind not in KINDS:
        raise ConfigError(f"kind must be nf4 or int8, not {kind!r}")
    shape_of(folder)
    told = (
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        if kind == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    try:
        return _opened(folder, device, dtype=dtype, quantization_config=told)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise FeatherdeskError(f"{folder} does not fit into memory as {kind}") from None
    except (OSError, ValueError) as error:
        raise CatalogError(f"{folder} cannot be loaded as {kind}: {error}") from None


def export_quantized(
    model: Path,
    out: Path,
    kind: str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    notify: Notify = lambda _: None,
) -> dict[str, Any]:
    """Write a Hugging Face folder of `nf4` or `int8` weights that loads as it is; tell the proof.

    Its config.json holds the quantization_config that transformers and vLLM read; what is not
    rounded is kept in `dtype`.

    Raises:
        CatalogError: the model or its tokenizer cannot be used.
        FeatherdeskError: what transformers loads is not what was saved, or not the model.
    """
    with merged(model, None, out, notify) as source, atomic_folder(out) as fresh:
        notify(f"rounding to {kind}")
        rounded = load_quantized(source, kind, dtype)
        rounded.save_pretrained(fresh)
        _write(fresh / "config.json", plain(settings(fresh / "config.json")))
        _write(fresh / "generation_config.json", generation_settings(source))
        write_tokenizer(source, fresh)
        notify("comparing it with torch")
        told = {"format": kind, **_proof(source, fresh, rounded), "megabytes": size_mb(fresh)}
        return proved(fresh, told)


def _opened(folder: Path, device: torch.device | None, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "train")
    place = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options |= {"attn_implementation": "sdpa", "device_map": {"": str(place)}}
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval()


def _proof(source: Path, out: Path, rounded: Any) -> dict[str, float]:
    """The largest logit difference of saved and loaded, the correlation with the whole model, and
    the share of positions with its likeliest token."""
    ids = probes(source)
    before = _logits(rounded, ids)
    after = _logits(_opened(out, None, dtype="auto"), ids)
    whole = np.concatenate(logits_of(source, ids))
    largest = float(np.abs(before - after).max())
    alike = float(np.corrcoef(whole.ravel(), after.ravel())[0, 1])
    if not (largest <= _SAVED and alike >= _ALIKE):
        raise FeatherdeskError(
            f"what transformers loads is not the model: logits differ by {largest:.4f} from those "
            f"that were saved (at most {_SAVED}), and correlate with the whole model's by "
            f"{alike:.3f} (at least {_ALIKE}); nothing was written"
        )
    agreement = float((whole.argmax(-1) == after.argmax(-1)).mean())
    return {"largest": largest, "correlation": alike, "agreement": agreement}


def _logits(model: Any, prompts: list[list[int]]) -> NDArray[np.float32]:
    """Logits of every position of all prompts: (tokens, vocabulary)."""
    with torch.inference_mode():
        told = [model(input_ids=torch.tensor([ids], device=model.device)) for ids in prompts]
    return np.concatenate([one.logits[0].float().cpu().numpy() for one in told])


def _write(path: Path, told: dict[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")

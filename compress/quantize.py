"""Quantized weights in torch, through bitsandbytes: for serving on CUDA and for QLoRA.

NF4: Dettmers et al., "QLoRA", arXiv 2305.14314; LLM.int8: arXiv 2208.07339. Weights that are not
matrices, and the output head, stay as they are. Knows nothing of ONNX.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..agent.errors import CatalogError, ConfigError, FeatherdeskError, MissingExtraError
from ..agent.resources import out_of_memory
from .architecture import shape_of

__all__ = ["load_quantized"]


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
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if kind not in {"nf4", "int8"}:
        raise ConfigError(f"kind must be nf4 or int8, not {kind!r}")
    shape_of(folder)
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "train")
    settings = (
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        if kind == "nf4"
        else BitsAndBytesConfig(load_in_8bit=True)
    )
    place = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            quantization_config=settings,
            device_map={"": str(place)},
            local_files_only=True,
        )
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise FeatherdeskError(f"{folder} does not fit into memory as {kind}") from None
    except (OSError, ValueError) as error:
        raise CatalogError(f"{folder} cannot be loaded as {kind}: {error}") from None
    return model.eval()

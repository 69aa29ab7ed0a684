"""Builds the fast graph of a model folder: fused QKV, GroupQueryAttention, keys and values bound.

The graph is the one of onnxruntime-genai's model builder. Knows nothing of integers: weights come
out as floats, and are rounded afterwards.
"""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from ..agent.errors import CatalogError, FeatherdeskError
from .gemma_graph import exact_embedding_scale, told_layers
from .model import copy_tokenizer
from .precision import Quantization
from .rotary import write_rotary

__all__ = ["build_graph", "has_cuda", "quiet"]

_KEPT = {"model.onnx", "model.onnx.data", "genai_config.json"}
_LONGEST = 2048


def build_graph(
    model: Path, out: Path, plan: Quantization, scales: Mapping[str, Any] | None = None
) -> None:
    """Write model.onnx, genai_config.json, tokenizer and chat template.

    `scales` are the key and value scales of an int8 cache, as the builder reads them.

    Raises:
        FeatherdeskError: the builder does not take this model.
    """
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    cache = out / ".cache"
    wanted = []
    if scales is not None:
        cache.mkdir()
        (cache / "scales.json").write_text(json.dumps({"scales": scales}))
        wanted.append("kv_cache_quant_type=int8_per_channel")
        wanted.append(f"kv_cache_scale_file={cache / 'scales.json'}")
    if not has_cuda():  # what only a GPU can run could not be proven here
        wanted.append("fuse_qk_norm_gqa=false")
    floats = plan.precision
    if plan.rounds:
        floats = "fp32" if plan.provider == "cpu" else "fp16"
    place = ("", str(model), str(out), floats, plan.provider, str(cache))
    try:
        with quiet(), told_layers(model):
            create_model(*place, **parse_extra_options(*place, wanted))
    except (NotImplementedError, ValueError, KeyError, AttributeError) as error:
        raise FeatherdeskError(
            f"{model}: the graph builder does not take this model: {error}"
        ) from None
    exact_embedding_scale(model, out)
    shutil.rmtree(cache, ignore_errors=True)
    _keep(model, out)
    write_rotary(out)


def _keep(model: Path, out: Path) -> None:
    """Only what serving reads stays; the end of turn is the model's own."""
    for path in out.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    copy_tokenizer(model, out)
    if (model / "chat_template.jinja").exists():
        shutil.copy(model / "chat_template.jinja", out / "chat_template.jinja")
    written = json.loads((out / "genai_config.json").read_text())
    written["model"].update(_ends(model))
    longest = min(_LONGEST, int(written["model"]["context_length"]))
    written["search"].update(do_sample=False, max_length=longest)
    (out / "genai_config.json").write_text(json.dumps(written, indent=1))


def _ends(model: Path) -> dict[str, Any]:
    """End and beginning of a turn: generation_config.json knows better than config.json."""
    told: dict[str, Any] = {}
    for name in ("config.json", "generation_config.json"):
        if (model / name).exists():
            data = json.loads((model / name).read_text(encoding="utf-8"))
            told |= {
                key: data[key]
                for key in ("eos_token_id", "bos_token_id")
                if data.get(key) is not None
            }
    if "eos_token_id" not in told:
        raise CatalogError(
            f"{model}: neither generation_config.json nor config.json names an eos_token_id: "
            "the model would never stop; add it"
        )
    return told


def has_cuda() -> bool:
    """Whether onnxruntime reaches an NVIDIA GPU here."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@contextmanager
def quiet() -> Iterator[None]:
    """Builder and exporter print thousands of lines; FEATHERDESK_DEBUG lets them through."""
    if os.environ.get("FEATHERDESK_DEBUG"):
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w", encoding="utf-8") as sink,
            redirect_stdout(sink),
            redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

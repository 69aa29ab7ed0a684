"""Exports a causal LM to one GGUF file, what llama.cpp and its descendants run, and proves it.

Written with the gguf library: names, hyper-parameters and the order of rotary pairs as llama.cpp's
own converter leaves them. The file is read back and every tensor is compared with its source.
Architectures and settings that llama.cpp would read otherwise are refused.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.artifacts import atomic_folder
from ..agent.errors import CatalogError, ConfigError, FeatherdeskError
from .gguf_vocabulary import write_vocabulary
from .huggingface import chat_template
from .merged import Notify, merged, proved, weight_files

__all__ = ["KINDS", "export_gguf"]

KINDS = ("Q8_0", "Q4_0", "F16")

_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
_HALF = 2.0**-11
"""Relative rounding of a 16-bit float; `_TINY` is the absolute one near zero."""
_TINY = 2.0**-25

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor in llama.cpp's name and layout, and the block format it is stored in."""

    name: str
    data: Array
    kind: str


def export_gguf(
    model: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    notify: Notify = lambda _: None,
    kind: str = "Q8_0",
) -> dict[str, Any]:
    """Write `out/<name of out>.gguf`; tell its file, size, formats and largest error.

    `kind` is Q8_0, Q4_0 or F16, in blocks of 32 along rows. Under Q4_0 the matrix that makes the
    logits is Q8_0 (llama.cpp takes Q6_K, which the gguf library cannot write). Norms and biases
    are F32; a matrix whose rows are no multiple of 32 is F16.

    Raises:
        CatalogError: model, tokenizer or adapter cannot be used, or llama.cpp cannot express them.
        ConfigError: an unknown `kind`.
        FeatherdeskError: a tensor that was read back is not the source's.
    """
    if kind not in KINDS:
        raise ConfigError(f"no GGUF kind {kind!r}; known: {', '.join(KINDS)}")
    logging.getLogger("gguf").setLevel(logging.ERROR)
    with merged(model, adapter, out, notify) as source, atomic_folder(out) as fresh:
        config = _configuration(source)
        file = fresh / f"{out.name}.gguf"
        notify(f"writing {file.name} ({kind})")
        _write(source, config, file, kind)
        notify("comparing every tensor with its source")
        worst, formats = _proved(source, config, file, kind)
        told: dict[str, Any] = {
            "format": "gguf",
            "kind": kind,
            "file": file.name,
            "tensors": formats,
            "largest": worst,
            "megabytes": round(file.stat().st_size / 1e6, 2),
        }
        return proved(fresh, told)


def _configuration(source: Path) -> dict[str, Any]:
    """The model's configuration with every default filled in.

    Raises:
        CatalogError: llama.cpp would compute something else with it.
    """
    from transformers import AutoConfig

    config: dict[str, Any] = AutoConfig.from_pretrained(source, local_files_only=True).to_dict()
    architecture = config["model_type"]
    if architecture not in _ARCHITECTURES:
        raise CatalogError(
            f"{source}: {architecture} models are not exported to GGUF here; "
            f"{', '.join(_ARCHITECTURES)} are"
        )
    heads = int(config["num_attention_heads"])
    config["head_dim"] = config.get("head_dim") or config["hidden_size"] // heads
    config["num_key_value_heads"] = config.get("num_key_value_heads") or heads
    wrong = next(_foreign(config), None)
    if wrong:
        raise CatalogError(f"{source} cannot become a GGUF: {wrong}; export it as huggingface")
    return config


def _foreign(config: Mapping[str, Any]) -> Iterator[str]:
    """What a configuration asks for that llama.cpp does not do for its architecture."""
    scaling = config.get("rope_scaling")
    if scaling and scaling.get("rope_type", scaling.get("type")) != "default":
        yield f"rope_scaling {scaling} is not written here"
    if config["model_type"] == "gemma3_text":
        yield from _foreign_gemma(config)
        return
    if config.get("hidden_act", "silu") != "silu":
        yield f"llama.cpp activates with silu, not {config['hidden_act']}"
    windowed = config.get("use_sliding_window", config["model_type"] == "mistral")
    if windowed and config.get("sliding_window"):
        yield "its sliding window is unknown to llama.cpp"


def _foreign_gemma(config: Mapping[str, Any]) -> Iterator[str]:
    kinds = ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(1000)]
    count = config["num_hidden_layers"]
    if config.get("layer_types", kinds[:count]) != kinds[:count]:
        yield "llama.cpp has every sixth layer see everything; here the layers lie otherwise"
    for name, wanted in (
        ("query_pre_attn_scalar", config["head_dim"]),
        ("rope_local_base_freq", 10000.0),
        ("attn_logit_softcapping", None),
        ("hidden_activation", "gelu_pytorch_tanh"),
    ):
        if config.get(name, wanted) != wanted:
            yield f"llama.cpp takes {name} to be {wanted}, here it is {config[name]}"


def _write(source: Path, config: Mapping[str, Any], file: Path, kind: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(file, _ARCHITECTURES[config["model_type"]])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(file.stem)
    writer.add_file_type(gguf.LlamaFileType["MOSTLY_" + kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_shape(writer, config)
    write_vocabulary(writer, source, config["vocab_size"])
    template = chat_template(source)
    if template:
        writer.add_chat_template(template)
    for tensor in _tensors(source, config, kind):
        type_ = gguf.GGMLQuantizationType[tensor.kind]
        writer.add_tensor(tensor.name, gguf.quants.quantize(tensor.data, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: Mapping[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(config["vocab_size"])
    if config["model_type"] == "gemma3_text":
        writer.add_sliding_window(config["sliding_window"])
        if config.get("final_logit_softcapping"):
            writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))


def _tensors(source: Path, config: Mapping[str, Any], kind: str) -> Iterator[_Tensor]:
    """Every tensor of the model as llama.cpp lays it out.

    Raises:
        CatalogError: the weights hold a tensor that the architecture does not have.
    """
    import gguf
    import torch
    from safetensors import safe_open

    number = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == _arch(config))
    names = gguf.get_tensor_name_map(number, config["num_hidden_layers"])
    for path in weight_files(source):
        if path.suffix != ".safetensors":
            continue
        with safe_open(path, framework="pt") as opened:
            for own in opened.keys():  # noqa: SIM118 - no mapping
                if own == "lm_head.weight" and config["tie_word_embeddings"]:
                    continue
                name = names.get_name(own, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise CatalogError(f"{path}: {own} has no place in a {_arch(config)} GGUF")
                data = opened.get_tensor(own).to(torch.float32).numpy()
                laid = np.ascontiguousarray(_laid_out(own, data, config))
                yield _Tensor(name, laid, _kind_of(name, laid, kind, config))


def _arch(config: Mapping[str, Any]) -> str:
    return _ARCHITECTURES[config["model_type"]]


def _laid_out(name: str, data: Array, config: Mapping[str, Any]) -> Array:
    """A tensor's numbers where llama.cpp's graph looks for them.

    llama turns neighbouring pairs, transformers halves of a head: q and k are re-ordered. Gemma's
    norms are stored as what is added to one.
    """
    if _arch(config) == "llama":
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if f".{part}." in name:
                return _interleaved(data, config[heads])
    if _arch(config) == "gemma3" and name.endswith("norm.weight"):
        return data + np.float32(1)
    return data


def _interleaved(data: Array, heads: int) -> Array:
    """Rows of each head as 0, n/2, 1, n/2 + 1, ...; a matrix or a bias."""
    halves = data.reshape(heads, 2, -1, *data.shape[1:])
    return halves.swapaxes(1, 2).reshape(data.shape)


def _kind_of(name: str, data: Array, kind: str, config: Mapping[str, Any]) -> str:
    if data.ndim == 1:
        return "F32"
    if kind == "F16" or data.shape[-1] % 32:
        return "F16"
    head = "token_embd.weight" if config["tie_word_embeddings"] else "output.weight"
    return "Q8_0" if name == head else kind


def _proved(
    source: Path, config: Mapping[str, Any], file: Path, kind: str
) -> tuple[float, dict[str, int]]:
    """The largest error over the largest weight of its tensor, and how many tensors have which
    format; read back from the file.

    Raises:
        FeatherdeskError: a tensor is missing, or further off than its format allows.
    """
    import gguf

    read = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    worst = 0.0
    formats: dict[str, int] = {}
    for wanted in _tensors(source, config, kind):
        found = read.pop(wanted.name, None)
        if found is None or tuple(reversed(found.shape)) != wanted.data.shape:
            raise FeatherdeskError(
                f"{file.name} lacks {wanted.name} {wanted.data.shape}; nothing was written"
            )
        got = gguf.quants.dequantize(found.data, found.tensor_type).reshape(wanted.data.shape)
        off, allowed = _errors(wanted, got)
        if not (off <= allowed).all():
            raise FeatherdeskError(
                f"{file.name}: {wanted.name} is not the model's: off by {np.nanmax(off):.6f}, "
                f"{wanted.kind} allows {allowed.max():.6f}; nothing was written"
            )
        worst = max(worst, float(off.max() / max(np.abs(wanted.data).max(), 1e-12)))
        formats[wanted.kind] = formats.get(wanted.kind, 0) + 1
    if read:
        raise FeatherdeskError(f"{file.name} holds {next(iter(read))}, which the model has not")
    return worst, formats


def _errors(wanted: _Tensor, got: Array) -> tuple[Array, Array]:
    """Error and allowed error of each weight, or of each block of 32.

    Q8_0 rounds to 1/127 of a block's largest weight, Q4_0 to 1/8 of it (where the largest is
    negative, its opposite is cut by a whole step); each scale is a 16-bit float.
    """
    shape = (-1, 32) if wanted.kind.startswith("Q") else (-1, 1)
    off = np.abs(wanted.data - got).reshape(shape).max(1)
    scale = np.abs(wanted.data).reshape(shape).max(1)
    steps = {"F32": 0.0, "F16": _HALF, "Q8_0": 0.5 / 127 + _HALF, "Q4_0": 1 / 8 + _HALF}
    tiny = 0.0 if wanted.kind == "F32" else _TINY * (127 if wanted.kind == "Q8_0" else 8)
    allowed = scale * np.float32(steps[wanted.kind] * 1.001) + np.float32(tiny)
    return off, allowed

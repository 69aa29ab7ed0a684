"""Puts base models and generators together, once, in the cache.

GGUF to a Hugging Face folder; base and adapter to a merged, exported generator folder. Knows
nothing of bots.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..agent.artifacts import atomic_folder, cache_root
from ..agent.catalog import fetch, local_folder
from ..agent.generators import check_adapter
from .precision import Quantization

__all__ = ["assemble_base", "assemble_encoder", "assemble_generator"]

Notify = Callable[[str], None]
_RECIPE = "2"


def assemble_base(name: str, notify: Notify = lambda _: None) -> Path:
    """The Hugging Face folder of a base model, made from its GGUF where that is the source."""
    given = local_folder(name)
    if given is not None:
        return given
    source = fetch(name, notify)
    if not (source / "model.gguf").exists():
        return source
    target = cache_root() / "assembled" / f"{name}-{_RECIPE}"
    if not (target / "config.json").exists():
        notify(f"reading {name}")
        with atomic_folder(target) as fresh:
            _from_gguf(source, fresh)
    return target


def _from_gguf(source: Path, out: Path) -> None:
    """De-quantize to fp32 safetensors and write the tokenizer llama.cpp reads from the file."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as messages

    from .pieces import fields_of, is_pieces, tokenizer_of

    messages.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file="model.gguf", dtype=torch.float32
    )
    told = fields_of(source / "model.gguf")
    if is_pieces(told):
        tokenizer = tokenizer_of(told)
        ends = [tokenizer.token_to_id("<end_of_turn>"), told["eos_token_id"]]
        for config in (model.config, model.generation_config):
            config.eos_token_id = [end for end in ends if end is not None]
            config.bos_token_id = told["bos_token_id"]
            config.pad_token_id = told.get("padding_token_id", told["eos_token_id"])
        tokenizer.save(str(out / "tokenizer.json"))
        if "chat_template" in told:
            (out / "chat_template.jinja").write_text(told["chat_template"], encoding="utf-8")
    else:
        _write_byte_level(source, out)
    model.save_pretrained(out)


def _write_byte_level(source: Path, out: Path) -> None:
    """transformers drops the pre-tokenizer's digit split, which the model was trained with."""
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file="model.gguf")
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for name in ("tokenizer.json", "chat_template.jinja"):
            shutil.copy(Path(scratch) / name, out / name)
    exact = Tokenizer.from_file(str(out / "tokenizer.json"))
    exact.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    exact.save(str(out / "tokenizer.json"))


def assemble_generator(
    base: str,
    adapter: Path | None,
    target: Path,
    plan: Quantization | None = None,
    notify: Notify = lambda _: None,
) -> dict[str, object]:
    """Write the generator folder of base and adapter; returns the measured parity."""
    from .export import export
    from .model import merge

    if adapter is not None:
        check_adapter(base, adapter)
    folder = assemble_base(base, notify)
    scratch = None
    try:
        if adapter is not None:
            notify(f"merging {adapter.name}")
            scratch = Path(tempfile.mkdtemp(dir=_made(cache_root())))
            merge(folder, adapter, scratch / "merged")
            folder = scratch / "merged"
        plan = plan or Quantization()
        notify(f"exporting to {plan.precision} ONNX")
        return asdict(export(folder, target, plan))
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def assemble_encoder(
    base: str, adapter: Path, target: Path, notify: Notify = lambda _: None
) -> dict[str, object]:
    """Write the encoder folder of base and adapter; returns the measured parity."""
    from .bert import merge_encoder
    from .export_encoder import export_encoder

    source = fetch(base, notify)
    with tempfile.TemporaryDirectory(dir=_made(cache_root())) as scratch:
        notify(f"merging {adapter.name}")
        merge_encoder(source, adapter, Path(scratch))
        notify("exporting to int8 ONNX")
        return {"agreement": export_encoder(Path(scratch), target)}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

"""Exports a Hugging Face folder that transformers and vLLM load as it is, and proves that it does.

Merged safetensors, the configuration with the class that reads them, a tokenizer that encodes as
ours does, its special tokens by content, a chat template; the adapter beside them when there was
one. No file names a place on this machine or on the network.
"""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..agent.artifacts import atomic_folder
from ..agent.catalog import catalog
from ..agent.errors import FeatherdeskError
from .measure import size_mb
from .merged import Notify, logits_of, merged, probes, proved, settings, weight_files
from .model import load_tokenizer

__all__ = [
    "chat_template",
    "export_huggingface",
    "generation_settings",
    "plain",
    "special_tokens",
    "write_tokenizer",
]

TOLERANCE = 1e-5
"""The weights are the same bytes: logits may differ by rounding only."""

_ADDRESSES = ("_name_or_path", "_model_name_or_path", "auto_map", "_commit_hash", "base_model")
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + "
    "('model' if message['role'] == 'assistant' else 'user') + '\\n' + "
    "message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
_TURNS = ("<|im_start|>", "<start_of_turn>")
_TEMPLATES = {"<|im_end|>": _CHATML, "<end_of_turn>": _GEMMA}


def export_huggingface(
    model: Path, out: Path, *, adapter: Path | None = None, notify: Notify = lambda _: None
) -> dict[str, Any]:
    """Write the folder `out`, with `out/adapter` when an adapter was merged; tell what was proved.

    Raises:
        CatalogError: the model, its tokenizer or the adapter cannot be used.
        FeatherdeskError: what transformers loads is not the model, or encodes otherwise.
    """
    with merged(model, adapter, out, notify) as source, atomic_folder(out) as fresh:
        notify("writing the Hugging Face folder")
        for path in weight_files(source):
            shutil.copyfile(path, fresh / path.name)
        _write(fresh / "config.json", _configuration(source))
        _write(fresh / "generation_config.json", generation_settings(source))
        write_tokenizer(source, fresh)
        if adapter is not None:
            _write_adapter(model, adapter, fresh / "adapter")
        notify("comparing it with torch")
        difference = _difference(source, fresh)
        told = {"format": "huggingface", "largest": difference, "megabytes": size_mb(fresh)}
        return proved(fresh, told)


def write_tokenizer(source: Path, out: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template where there is one.

    A tokenizer that was read from a GGUF may begin every text with a turn; a prompt brings its
    own, and other servers would send two.
    """
    tokenizer = settings(source / "tokenizer.json")
    rows = _configuration(source).get("vocab_size") or math.inf
    added = tokenizer.get("added_tokens") or ()
    tokenizer["added_tokens"] = [one for one in added if one["id"] < rows]
    if any(mark in json.dumps(tokenizer.get("post_processor")) for mark in _TURNS):
        tokenizer["post_processor"] = None
    _write(out / "tokenizer.json", tokenizer)
    told: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": _configuration(source).get("max_position_embeddings", 2048),
        **special_tokens(source),
    }
    template = chat_template(source)
    if template:
        told["chat_template"] = template
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")
    _write(out / "tokenizer_config.json", told)


def special_tokens(source: Path) -> dict[str, str]:
    """`bos_token`, `eos_token`, `pad_token` and `unk_token` by content, as far as there are any.

    Without padding of its own a model is padded with its end of turn.
    """
    tokenizer = load_tokenizer(source)
    config = settings(source / "config.json")
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        number = _first(config.get(f"{name}_id"))
        content = tokenizer.id_to_token(number) if number is not None else None
        if content is not None:
            found[name] = str(content)
    if "eos_token" in found:
        found.setdefault("pad_token", found["eos_token"])
    return found


def chat_template(source: Path) -> str:
    """The Jinja template of a folder, or the usual one of the turn marks its tokenizer knows."""
    path = source / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    told = settings(source / "tokenizer_config.json").get("chat_template")
    if isinstance(told, str):
        return told
    tokenizer = load_tokenizer(source)
    for mark, template in _TEMPLATES.items():
        if tokenizer.token_to_id(mark) is not None:
            return template
    return ""


def _configuration(source: Path) -> dict[str, Any]:
    """config.json with the class that reads it and without addresses."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    told = plain(settings(source / "config.json"))
    told["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[told["model_type"]]]
    return told


def generation_settings(source: Path) -> dict[str, Any]:
    """generation_config.json: the folder's own, with the token ids of its configuration."""
    config = settings(source / "config.json")
    told = plain(settings(source / "generation_config.json"))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if config.get(name) is not None:
            told[name] = config[name]
    if told.get("pad_token_id") is None and told.get("eos_token_id") is not None:
        told["pad_token_id"] = _first(told["eos_token_id"])
    told.pop("_from_model_config", None)
    return told


def _write_adapter(model: Path, adapter: Path, out: Path) -> None:
    """The adapter in PEFT's format, naming its base by id rather than by place."""
    out.mkdir()
    shutil.copyfile(adapter / "adapter_model.safetensors", out / "adapter_model.safetensors")
    card = settings(adapter / "card.json")
    base = _base_name(str(card.get("base", "")), model)
    config = settings(adapter / "adapter_config.json")
    _write(out / "adapter_config.json", {**plain(config), "base_model_name_or_path": base})
    if card:
        _write(out / "card.json", {**card, "base": base})


def _base_name(told: str, model: Path) -> str:
    """The hub's name of a base in the catalogue, its id, or the name of the model folder."""
    for name in (told, f"{told}-hub"):
        if name in catalog() and catalog()[name].hub:
            return catalog()[name].hub
    return told if told in catalog() else model.resolve().name


def _difference(source: Path, out: Path) -> float:
    """The largest logit difference; checks the token ids of transformers' tokenizer too."""
    from transformers import AutoTokenizer

    ids = probes(source)
    tokenizer = load_tokenizer(source)
    opened = AutoTokenizer.from_pretrained(out, local_files_only=True)
    for own in ids:
        text = tokenizer.decode(own, skip_special_tokens=False)
        wanted = tokenizer.encode(text, add_special_tokens=False).ids
        if opened.encode(text, add_special_tokens=False) != wanted:
            raise FeatherdeskError(
                f"transformers encodes {text[:40]!r} in another way than "
                f"{source / 'tokenizer.json'}; nothing was written"
            )
    pairs = zip(logits_of(source, ids), logits_of(out, ids), strict=True)
    largest = max(float(np.abs(one - other).max()) for one, other in pairs)
    if not largest <= TOLERANCE:
        raise FeatherdeskError(
            f"what transformers loads is not the model: logits differ by {largest:.4f}; "
            "nothing was written"
        )
    return largest


def plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that name a place."""
    return {key: value for key, value in told.items() if key not in _ADDRESSES}


def _first(value: Any) -> int | None:
    """One id of a token that may have several."""
    one = value[0] if isinstance(value, list) and value else value
    return one if isinstance(one, int) else None


def _write(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")

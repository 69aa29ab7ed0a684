"""Writes a model folder's tokenizer into a GGUF: tokens with their types, merges or scores.

Byte-level BPE goes as llama.cpp's `gpt2` with the name of its splitter, BPE over characters with
bytes to fall back on as its `llama` (SentencePiece). Knows nothing of weights.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..agent.errors import CatalogError
from .merged import settings
from .model import load_tokenizer

__all__ = ["write_vocabulary"]

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_NO_SCORE = -1000.0
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_UNUSED_PIECE = re.compile(r"<unused\d+>")
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_vocabulary(writer: Any, source: Path, rows: int) -> None:
    """Add tokens, types, merges or scores and special ids; `rows` is the size of the embedding.

    Raises:
        CatalogError: llama.cpp has no such tokenizer.
    """
    told = json.loads(load_tokenizer(source).to_str())
    if told["model"].get("type") != "BPE":
        raise CatalogError(
            f"{source / 'tokenizer.json'}: {told['model'].get('type')} tokenizers do not go into "
            "a GGUF here; BPE does"
        )
    tokens, types = _tokens(told, rows)
    if _is_byte_level(told) or not told["model"].get("byte_fallback"):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_splitter(told, source))
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges([" ".join(pair) for pair in _merges(told)])
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(False)  # a prompt brings its own turn marks
    else:
        _write_pieces(writer, told, tokens, types)
        writer.add_add_bos_token(_begins_with_bos(told))
    _write_special(writer, settings(source / "config.json"), tokens)


def _is_byte_level(told: Mapping[str, Any]) -> bool:
    """Whether bytes are spelled with letters; `byte_fallback` may be on there without meaning."""
    return "ByteLevel" in _splitters(told)


def _splitters(told: Mapping[str, Any]) -> list[str]:
    part = told.get("pre_tokenizer") or {}
    return [str(one.get("type")) for one in part.get("pretokenizers", [part])]


def _tokens(told: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Every id's text and type; rows of the embedding that have no token are padding."""
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [_UNUSED] * rows
    pieces = not _is_byte_level(told)
    for text, number in told["model"]["vocab"].items():
        tokens[number] = text
        types[number] = _piece_type(text) if pieces else _NORMAL
    for item in told.get("added_tokens", ()):
        tokens[item["id"]] = item["content"]
        types[item["id"]] = _CONTROL if item.get("special") else _USER_DEFINED
    return tokens, types


def _piece_type(text: str) -> int:
    if _BYTE_PIECE.fullmatch(text):
        return _BYTE
    return _CONTROL if _UNUSED_PIECE.fullmatch(text) else _NORMAL


def _write_pieces(
    writer: Any, told: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]
) -> None:
    """SentencePiece joins the pair whose piece scores highest: the earlier merged, the higher."""
    numbers = told["model"]["vocab"]
    made = dict.fromkeys(numbers[left + right] for left, right in _merges(told))
    letters = (number for number in sorted(numbers.values()) if number not in made)
    normal = [number for number in (*made, *letters) if types[number] == _NORMAL]
    scores = [0.0 if type_ == _BYTE else _NO_SCORE for type_ in types]
    for rank, number in enumerate(normal):
        scores[number] = -float(rank)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(
        [
            text.replace("▁", " ") if type_ == _USER_DEFINED else text
            for text, type_ in zip(tokens, types, strict=True)
        ]
    )
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(_prepends(told.get("normalizer")))


def _write_special(writer: Any, config: Mapping[str, Any], tokens: Sequence[str]) -> None:
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    given = {
        "bos": config.get("bos_token_id"),
        "eos": ends[0],
        "eot": ends[1] if len(ends) > 1 else None,
        "pad": config.get("pad_token_id"),
        "unk": config.get("unk_token_id"),
    }
    for name, number in given.items():
        if isinstance(number, int) and 0 <= number < len(tokens):
            getattr(writer, f"add_{name}_token_id")(number)


def _splitter(told: Mapping[str, Any], source: Path) -> str:
    """The name that llama.cpp gives to how text is split before BPE."""
    part = told.get("pre_tokenizer") or {}
    parts = part.get("pretokenizers", [part])
    kinds = _splitters(told)
    last = parts[-1]
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        split = last.get("use_regex", True)
        if kinds == ["ByteLevel"] and split:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and split and parts[0].get("individual_digits"):
            return "smollm"
        pattern = parts[0].get("pattern")
        if kinds == ["Split", "ByteLevel"] and not split and pattern == {"Regex": _QWEN_SPLIT}:
            return "qwen2"
    raise CatalogError(
        f"{source / 'tokenizer.json'} splits text in a way ({', '.join(kinds)}) that "
        "has no name in llama.cpp's list here; known are those of GPT-2, SmolLM and Qwen"
    )


def _merges(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = (m.split(" ") if isinstance(m, str) else m for m in told["model"]["merges"])
    return [(left, right) for left, right in pairs]


def _prepends(normalizer: Any) -> bool:
    """Whether a normalizer puts a space before the text."""
    if not isinstance(normalizer, dict):
        return False
    inner = normalizer.get("normalizers", ())
    return normalizer.get("type") == "Prepend" or any(_prepends(one) for one in inner)


def _begins_with_bos(told: Mapping[str, Any]) -> bool:
    """Whether the tokenizer itself puts a token before every text."""
    processor = told.get("post_processor") or {}
    for one in processor.get("processors", [processor]):
        single = one.get("single") or [{}]
        if one.get("type") == "TemplateProcessing" and "SpecialToken" in single[0]:
            return True
    return False

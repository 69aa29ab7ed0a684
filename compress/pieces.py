"""Makes a tokenizer of the pieces and scores that a GGUF holds for a SentencePiece model.

transformers reads Gemma's as a unigram model, which splits text otherwise: the pieces were learned
by BPE, so joining the pair that scores highest is a merge list in order of score (Kudo and
Richardson, arXiv 1808.06226). Knows nothing of weights.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

__all__ = ["fields_of", "is_pieces", "tokenizer_of"]

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_SPACE = "▁"
_UNUSED = re.compile(r"<unused\d+>")
_PREFIX = re.compile(r"tokenizer\.(ggml\.)?")


def fields_of(file: Path) -> dict[str, Any]:
    """What a GGUF says of its tokenizer: `tokens`, `scores`, `token_type`, `chat_template`, ..."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields.items()
    return {
        _PREFIX.sub("", name): field.contents() for name, field in fields if _PREFIX.match(name)
    }


def is_pieces(told: Mapping[str, Any]) -> bool:
    """Whether the tokenizer is SentencePiece's, with scores rather than merges."""
    return told.get("model") == "llama" and "scores" in told and "merges" not in told


def tokenizer_of(told: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that encodes as llama.cpp does with the same pieces.

    Tokens that were never used stay in the vocabulary, but no text becomes one of them.
    """
    tokens: list[str] = told["tokens"]
    types: list[int] = told["token_type"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            _merges(tokens, types, told["scores"]),
            unk_token=tokens[told.get("unknown_token_id", 0)],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    begins = bool(told.get("add_space_prefix", True))
    replace = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_SPACE), replace]) if begins else replace
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if begins else []),
        ]
    )
    tokenizer.add_tokens(_added(tokens, types))
    if told.get("add_bos_token", True):
        first = tokens[told["bos_token_id"]]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A",
            pair=f"{first} $A {first} $B",
            special_tokens=[(first, told["bos_token_id"])],
        )
    return tokenizer


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[AddedToken]:
    """Control tokens, and what the makers wanted whole: runs of spaces and lines, tags."""
    return [
        AddedToken(token, normalized=False, special=kind == _CONTROL)
        for token, kind in zip(tokens, types, strict=True)
        if kind in {_CONTROL, _USER_DEFINED} and not _UNUSED.fullmatch(token)
    ]


def _merges(
    tokens: Sequence[str], types: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Every way to make a piece of two, the highest score first."""
    normal = {
        token: score
        for token, kind, score in zip(tokens, types, scores, strict=True)
        if kind == _NORMAL
    }
    pairs = [
        (-score, -place, token)
        for token, score in normal.items()
        for place in range(1, len(token))
        if token[:place] in normal and token[place:] in normal
    ]
    return [(token[:-turned], token[-turned:]) for _, turned, token in sorted(pairs)]

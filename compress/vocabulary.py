"""Cuts a byte-complete BPE vocabulary down to the tokens that the bot and its languages need.

Every byte and every special token stays and the merges are rebuilt, so any text still encodes
and decodes to itself; what was one rare token becomes several common ones. After Ushio et al.,
"Vocabulary Trimming", arXiv 2305.15020. Knows nothing of layers.
"""

import heapq
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer

from ..agent.errors import CatalogError, ConfigError
from .architecture import Shape, configure, open_model, shape_of
from .model import load_tokenizer, write_atomically
from .settings import at_least, fewer
from .steps import Task

__all__ = ["TrimVocabulary", "kept_tokens", "parent_with", "trimmed_tokenizer"]

_PRINTED = frozenset({9, 10, *range(32, 127), *range(0x80, 0xC0), *range(0xC2, 0xF1)})
"""Bytes of text that is read; some bases lack control characters and unassigned code points."""


def _byte_letters() -> list[str]:
    """The letter that byte-level BPE (Radford et al. 2019, GPT-2) writes for each byte."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in own else next(others)) for byte in range(256)]


_LETTERS = _byte_letters()
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "image_token_id")


@dataclass(frozen=True, slots=True)
class TrimVocabulary:
    """The step `vocabulary`: keep `size` tokens.

    Tokens of the calibration data and the FAQ come first, most used ahead; then the earliest
    merges, which are the commonest of general text.
    """

    kind: ClassVar[str] = "prune"
    size: int = 16384

    def __post_init__(self) -> None:
        at_least(1, size=self.size)

    def fits(self, shape: Shape) -> Shape:
        """The shape it leaves, or a little less.

        Raises:
            ConfigError: the model has no more tokens than should stay.
        """
        fewer("vocabulary", self.size, shape.vocabulary, "tokens")
        return replace(shape, vocabulary=self.size)

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the model with fewer embeddings and the tokenizer that goes with them."""
        shape = shape_of(source)
        self.fits(shape)
        tokenizer = load_tokenizer(source)
        told = json.loads(tokenizer.to_str())
        kept = kept_tokens(told, tokenizer, task.material.passages(), self.size)
        fresh = trimmed_tokenizer(told, kept)
        new_ids = {old: new for new, old in enumerate(kept)}
        model = open_model(source)
        _cut(model, kept)

        def write(folder: Path) -> None:
            model.save_pretrained(folder)
            fresh.save(str(folder / "tokenizer.json"))
            for path in source.glob("*.jinja"):
                shutil.copy(path, folder / path.name)
            for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
                _renumber(source / name, folder / name, new_ids)

        write_atomically(out, write)
        before, after = _lengths(tokenizer, task), _lengths(fresh, task)
        return {
            "tokens": len(kept),
            "of": shape.vocabulary,
            "longer": round(after / max(before, 1) - 1, 4),
        }


def kept_tokens(
    told: Mapping[str, Any], tokenizer: Tokenizer, passages: Iterable[str], size: int
) -> list[int]:
    """The ids to keep, ascending: special, every byte, most used, then the earliest merges.

    A token is kept with all the tokens that its merges pass through.

    Raises:
        CatalogError: the tokenizer is no BPE that can write any text.
        ConfigError: `size` leaves no room for bytes and special tokens.
    """
    model = told["model"]
    vocabulary: dict[str, int] = model.get("vocab", {})
    if model.get("type") != "BPE" or not isinstance(vocabulary, dict):
        raise CatalogError(
            f"the tokenizer is {model.get('type')}, only BPE vocabularies can be cut; "
            "leave the step `vocabulary` out"
        )
    needed = {item["id"] for item in told.get("added_tokens", ())} | _alphabet(told)
    if model.get("unk_token") in vocabulary:
        needed.add(vocabulary[model["unk_token"]])
    if len(needed) > size:
        raise ConfigError(
            f"vocabulary: {size} tokens leave no room for the {len(needed)} bytes and special "
            "tokens that must stay; ask for more"
        )
    parents = _parents(model["merges"], vocabulary)
    used: Counter[int] = Counter()
    for passage in passages:
        used.update(tokenizer.encode(passage, add_special_tokens=False).ids)
    kept = set(needed)
    for token in _ranked(used, vocabulary, parents):
        family = _family(token, parents, kept)
        if len(kept) + len(family) <= size:
            kept |= family
        if len(kept) == size:
            break
    return sorted(kept)


def _ranked(
    used: Counter[int], vocabulary: Mapping[str, int], parents: Mapping[int, tuple[int, int]]
) -> Iterable[int]:
    yield from (token for token, _ in heapq.nlargest(len(used), used.items(), lambda item: item[1]))
    yield from (token for token in parents if token not in used)
    yield from (token for token in vocabulary.values() if token not in parents)


def _family(token: int, parents: Mapping[int, tuple[int, int]], kept: set[int]) -> set[int]:
    """A token and what its merges pass through, as far as it is not kept already."""
    found: set[int] = set()
    open_ends = [token]
    while open_ends:
        one = open_ends.pop()
        if one in kept or one in found:
            continue
        found.add(one)
        open_ends.extend(parents.get(one, ()))
    return found


def _pairs(merges: Iterable[Any]) -> Iterable[tuple[str, str]]:
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _parents(merges: Iterable[Any], vocabulary: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """What each merged token is first made of, in the order of the merges."""
    found: dict[int, tuple[int, int]] = {}
    for left, right in _pairs(merges):
        token = vocabulary.get(left + right)
        if token is not None and left in vocabulary and right in vocabulary:
            found.setdefault(token, (vocabulary[left], vocabulary[right]))
    return found


def _alphabet(told: Mapping[str, Any]) -> set[int]:
    """The ids with which any text can be written.

    Raises:
        CatalogError: some byte has no token.
    """
    vocabulary = told["model"]["vocab"]
    if _reads_bytes(told.get("pre_tokenizer")):
        wanted = {_LETTERS[byte] for byte in _PRINTED}
        extra = {letter for letter in _LETTERS if letter in vocabulary}
    else:
        wanted = {f"<0x{byte:02X}>" for byte in range(256)}
        plain = [chr(code) for code in range(32, 127)] + ["▁", "\n", "\t"]
        extra = {letter for letter in plain if letter in vocabulary}
    missing = sorted(wanted - vocabulary.keys())
    if missing:
        raise CatalogError(
            f"the tokenizer cannot write every text: no token for {missing[0]!r}; "
            "leave the step `vocabulary` out"
        )
    return {vocabulary[letter] for letter in wanted | extra}


def _reads_bytes(part: Any) -> bool:
    """Whether a pre-tokenizer turns text into byte letters first."""
    if not isinstance(part, dict):
        return False
    inner = part.get("pretokenizers", ())
    return part.get("type") == "ByteLevel" or any(_reads_bytes(one) for one in inner)


def trimmed_tokenizer(told: Mapping[str, Any], kept: Iterable[int]) -> Tokenizer:
    """The tokenizer with only the `kept` ids, renumbered from 0 in their order."""
    new_ids = {old: new for new, old in enumerate(kept)}
    told = json.loads(json.dumps(told))
    model = told["model"]
    vocabulary = {text: new_ids[i] for text, i in model["vocab"].items() if i in new_ids}
    model["vocab"] = vocabulary
    model["merges"] = [
        [left, right]
        for left, right in _pairs(model["merges"])
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    for item in told.get("added_tokens", ()):
        item["id"] = new_ids[item["id"]]
    processor = told.get("post_processor")
    for one in _processors(processor):
        for special in (one.get("special_tokens") or {}).values():
            special["ids"] = [new_ids[i] for i in special["ids"]]
    return Tokenizer.from_str(json.dumps(told))


def parent_with(parent: Path, child: Path) -> Any:
    """The model in `parent` with the vocabulary of the one in `child`, to be compared with it.

    Raises:
        CatalogError: the child has a token that the parent has not.
    """
    model = open_model(parent)
    if shape_of(parent).vocabulary == shape_of(child).vocabulary:
        return model
    known = load_tokenizer(parent).get_vocab()
    wanted = load_tokenizer(child).get_vocab()
    missing = [text for text in wanted if text not in known]
    if missing:
        raise CatalogError(f"{child} has a token that {parent} lacks: {missing[0]!r}")
    _cut(model, [known[text] for text, _ in sorted(wanted.items(), key=lambda item: item[1])])
    return model


def _processors(processor: Any) -> Iterable[dict[str, Any]]:
    if not processor:
        return
    yield processor
    for inner in processor.get("processors", ()):
        yield from _processors(inner)


def _cut(model: Any, kept: list[int]) -> None:
    """Keep the rows of embeddings and head; a tied head stays tied."""
    rows = torch.tensor(kept)
    words = model.get_input_embeddings()
    head = model.get_output_embeddings()
    tied = head.weight is words.weight
    words.weight = torch.nn.Parameter(words.weight.detach()[rows].clone())
    words.num_embeddings = len(kept)
    if words.padding_idx is not None and words.padding_idx >= len(kept):
        words.padding_idx = None
    if tied:
        head.weight = words.weight
    else:
        head.weight = torch.nn.Parameter(head.weight.detach()[rows].clone())
        if head.bias is not None:
            head.bias = torch.nn.Parameter(head.bias.detach()[rows].clone())
    head.out_features = len(kept)
    configure(model, vocab_size=len(kept))


def _renumber(source: Path, target: Path, new_ids: Mapping[int, int]) -> None:
    """Token ids in a JSON file of the model folder, written anew from the source's."""
    if not source.exists():
        return
    old = json.loads(source.read_text(encoding="utf-8"))
    told = json.loads(target.read_text(encoding="utf-8")) if target.exists() else dict(old)

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [new_ids[one] for one in value if one in new_ids]
        return new_ids.get(value) if isinstance(value, int) else value

    for name in _TOKEN_IDS:
        if name in old:
            told[name] = moved(old[name])
    if "added_tokens_decoder" in old:
        told["added_tokens_decoder"] = {
            str(new_ids[int(i)]): item
            for i, item in old["added_tokens_decoder"].items()
            if int(i) in new_ids
        }
    target.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _lengths(tokenizer: Tokenizer, task: Task) -> int:
    """Tokens of a part of the calibration data."""
    passages = [text for text, _ in zip(task.material.passages(), range(2000), strict=False)]
    return sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in passages)

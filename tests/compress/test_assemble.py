"""The real base model: its tokenizer, its generator, its adapters."""

import json
from pathlib import Path

import pytest
from featherdesk.agent.encoder import ENGLISH, open_encoder
from featherdesk.agent.errors import ArtifactError, CatalogError
from featherdesk.agent.generators import (
    adapter_folder,
    check_adapter,
    ensure_encoder,
    fingerprint,
)
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress.assemble import assemble_base
from tokenizers import Tokenizer

DATA = Path(__file__).resolve().parents[1] / "data"
BASE = "smollm2-135m-instruct"


@pytest.mark.end_to_end
def test_the_tokenizer_encodes_like_llama_cpp() -> None:
    """Reference ids: tests/data/make_tokenizer_reference.py."""
    tokenizer = Tokenizer.from_file(str(assemble_base(BASE) / "tokenizer.json"))
    rows = [
        json.loads(line)
        for line in (DATA / "tokenizer_reference.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    assert len(rows) == 2000
    wrong = [
        row["text"]
        for row in rows
        if tokenizer.encode(row["text"], add_special_tokens=False).ids != row["ids"]
    ]
    assert wrong == []


@pytest.mark.end_to_end
def test_the_generator_folder_is_small_and_ends_its_turns(sample_bot: Path) -> None:
    folder = sample_bot / "generator"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 95e6
    assert json.loads((folder / "genai_config.json").read_text())["model"]["eos_token_id"] == 2
    generator = OnnxGenerator(folder)
    assert generator.encode("<|im_end|>") == [2]


def test_the_encoder_is_made_once_and_names_what_it_was_made_from() -> None:
    folder = ensure_encoder(ENGLISH, lambda _: None)
    assert (folder / "model.onnx").stat().st_size < 25e6
    made: list[str] = []
    assert ensure_encoder(ENGLISH, made.append) == folder
    assert made == []
    assert open_encoder(ENGLISH, folder).embed(["How long is delivery?"]).shape == (1, 384)
    with pytest.raises(ArtifactError, match="unknown encoder 'nope'; known: minilm-l6-v2-support"):
        open_encoder("nope", folder)


@pytest.mark.parametrize(
    ("name", "base"), [("grounded", BASE), ("sample", BASE), ("retriever", "minilm-l6-v2-int8")]
)
def test_the_shipped_adapters_are_small_and_carded(name: str, base: str) -> None:
    folder = adapter_folder(name)
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 12e6
    check_adapter(base, folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Licence", "Command", "Seed", "Data", "Scores"):
        assert word in card


def test_an_unknown_adapter_names_the_shipped_ones() -> None:
    with pytest.raises(CatalogError, match="grounded"):
        adapter_folder("nope")


def test_an_adapter_of_another_base_or_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"prompt_contract": "x", "base_sha256": "y", "base": "b"}')
    with pytest.raises(CatalogError, match="another prompt contract"):
        check_adapter(BASE, tmp_path)
    from featherdesk.agent.prompt import contract_hash

    told = {"prompt_contract": contract_hash(), "base_sha256": "y", "base": "b"}
    (tmp_path / "card.json").write_text(json.dumps(told))
    with pytest.raises(CatalogError, match="was trained on b"):
        check_adapter(BASE, tmp_path)


def test_a_generator_is_named_by_what_goes_into_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"a")
    one = fingerprint(BASE, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"b")
    assert len({one, fingerprint(BASE, tmp_path), fingerprint(BASE, None)}) == 3

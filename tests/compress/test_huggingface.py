import json
import shutil
from pathlib import Path

import pytest
import torch
from featherdesk.agent.errors import CatalogError, ConfigError, FeatherdeskError
from featherdesk.compress import huggingface as module
from featherdesk.compress.huggingface import export_huggingface
from featherdesk.compress.model import merge
from tokenizers import Tokenizer, processors
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = (
    "How long does delivery take?",
    "It costs £4.95, or 12,50 € from 2026-01-31.",
    "退货需要多少天？",
    "<|im_start|>user\nboots<|im_end|>\n",
)


def _greedy(folder: Path, text: str, count: int = 16) -> list[int]:
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        max_new_tokens=count,
        do_sample=False,
    )
    return [int(token) for token in found[0, len(ids) :]]


def test_transformers_loads_the_folder_and_answers_as_the_parent(
    talkative: Path, tmp_path: Path
) -> None:
    told = export_huggingface(talkative, tmp_path / "out")
    assert told["largest"] <= 1e-5
    assert told["megabytes"] > 0
    answer = _greedy(talkative, TEXTS[0])
    assert len(set(answer)) > 8
    assert _greedy(tmp_path / "out", TEXTS[0]) == answer


def test_the_tokenizer_is_ours_with_its_special_tokens_by_content(
    tiny: Path, tmp_path: Path
) -> None:
    export_huggingface(tiny, tmp_path / "out")
    ours = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text).ids
        assert theirs.decode(theirs.encode(text)) == text
    assert (theirs.eos_token, theirs.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert theirs.bos_token == "<|im_start|>"
    assert type(theirs).__name__ == "PreTrainedTokenizerFast"


def test_no_turn_is_begun_before_every_text(tiny: Path, tmp_path: Path) -> None:
    """Tokenizers that were read from a GGUF do that; the prompt brings the mark itself."""
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    tokenizer.save(str(source / "tokenizer.json"))
    assert tokenizer.encode("boots").ids[0] == 1
    export_huggingface(source, tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("boots")["input_ids"] == tokenizer.encode("boots", add_special_tokens=False).ids


def test_a_chat_template_renders_in_turns(tiny: Path, tmp_path: Path) -> None:
    export_huggingface(tiny, tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    shown = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert shown == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_template_of_the_model_itself_is_kept(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")
    export_huggingface(source, tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi!"


def test_what_other_servers_read_is_there(tiny: Path, tmp_path: Path) -> None:
    export_huggingface(tiny, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 2
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o044 == 0o044


def test_an_adapter_is_merged_and_laid_beside(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    export_huggingface(tiny, tmp_path / "out", adapter=adapter)
    merge(tiny, adapter, tmp_path / "merged")
    answer = _greedy(tmp_path / "out", TEXTS[0])
    assert answer == _greedy(tmp_path / "merged", TEXTS[0])
    assert answer != _greedy(tiny, TEXTS[0])
    told = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == tiny.name
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(tiny)
    adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter").eval()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.tensor([[5, 9, 77]])
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, whole(ids).logits, atol=1e-4)


def test_a_shipped_base_is_named_as_the_hub_names_it(
    tiny: Path, adapter: Path, tmp_path: Path
) -> None:
    carded = tmp_path / "carded"
    shutil.copytree(adapter, carded)
    (carded / "card.json").write_text('{"base": "smollm2-135m-instruct"}')
    export_huggingface(tiny, tmp_path / "out", adapter=carded)
    told = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_no_file_names_a_place(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    told = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**told, "_name_or_path": str(tiny)}))
    export_huggingface(source, tmp_path / "out", adapter=adapter)
    for path in (tmp_path / "out").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert str(tiny) not in text
        assert str(tmp_path) not in text


def test_fewer_words_and_layers_go_through(trimmed: Path, tmp_path: Path) -> None:
    export_huggingface(trimmed, tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = Tokenizer.from_file(str(trimmed / "tokenizer.json"))
    assert theirs.encode("boots") == ours.encode("boots").ids
    assert len(theirs) == json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"]
    assert _greedy(tmp_path / "out", "boots") == _greedy(trimmed, "boots")


def test_fewer_heads_and_channels_go_through(narrowed: Path, tmp_path: Path) -> None:
    export_huggingface(narrowed, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (told["num_key_value_heads"], told["intermediate_size"]) == (1, 96)
    answer = _greedy(narrowed, TEXTS[0])
    assert len(set(answer)) > 4
    assert _greedy(tmp_path / "out", TEXTS[0]) == answer


def test_a_model_in_shards_goes_through(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(source, max_shard_size="100KB")
    shutil.copy(tiny / "tokenizer.json", source / "tokenizer.json")
    assert not (source / "model.safetensors").exists()
    export_huggingface(source, tmp_path / "out")
    assert _greedy(tmp_path / "out", TEXTS[0]) == _greedy(tiny, TEXTS[0])
    next(source.glob("model-00001*")).unlink()
    with pytest.raises(CatalogError, match="every shard"):
        export_huggingface(source, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_other_logits_are_an_error_and_leave_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = module._configuration

    def swapped(source: Path) -> dict[str, object]:
        return {**config(source), "rope_theta": 7.0}

    monkeypatch.setattr(module, "_configuration", swapped)
    with pytest.raises(FeatherdeskError, match="not the model: logits differ"):
        export_huggingface(tiny, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_another_bases_adapter_is_refused(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    file = other / "adapter_model.safetensors"
    tensors = load_file(file)
    wide = {n: torch.zeros(t.shape[0], 96) if "lora_A" in n else t for n, t in tensors.items()}
    save_file(wide, file)
    with pytest.raises(CatalogError, match=r"trained on another base: .*down_proj has 96 inputs"):
        export_huggingface(tiny, tmp_path / "out", adapter=other)
    deeper = {n.replace("layers.1.", "layers.7."): t for n, t in tensors.items()}
    save_file(deeper, file)
    with pytest.raises(CatalogError, match=r"layers\.7\..* is not there"):
        export_huggingface(tiny, tmp_path / "out", adapter=other)
    file.unlink()
    with pytest.raises(CatalogError, match="is not an adapter folder"):
        export_huggingface(tiny, tmp_path / "out", adapter=other)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_said(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    told = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**told, "model_type": "mamba"}))
    with pytest.raises(CatalogError, match="'mamba' cannot be compressed"):
        export_huggingface(source, tmp_path / "out")
    (source / "config.json").write_text(json.dumps({**told, "vocab_size": 100}))
    with pytest.raises(CatalogError, match="another model's: it has a token 258"):
        export_huggingface(source, tmp_path / "out")
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(CatalogError, match="cannot be read"):
        export_huggingface(source, tmp_path / "out")
    (source / "tokenizer.json").unlink()
    with pytest.raises(CatalogError, match="has no tokenizer"):
        export_huggingface(source, tmp_path / "out")
    with pytest.raises(ConfigError, match="would overwrite"):
        export_huggingface(tiny, tiny)
    assert not (tmp_path / "out").exists()

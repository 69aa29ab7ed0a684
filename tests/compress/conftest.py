"""A tiny seeded llama with a tokenizer of bytes, made on the spot."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer llama of a few thousand weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: n for n, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


@pytest.fixture(scope="session")
def talkative(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a head of its own: its greedy answers wander, where a tied one repeats."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("talkative") / "model"
    torch.manual_seed(2)
    told = LlamaConfig.from_pretrained(tiny).to_dict()
    told.update(tie_word_embeddings=False, initializer_range=0.1)
    LlamaForCausalLM(LlamaConfig(**told)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny llama whose matrices are random: it changes every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    told = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), told)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    folder = tmp_path_factory.mktemp("adapter") / "shopkeeper"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trimmed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama with words in its tokenizer and then fewer of them, and a layer less."""
    from featherdesk.compress.architecture import open_model, save_model
    from featherdesk.compress.layers import without_layers
    from featherdesk.compress.material import Material
    from featherdesk.compress.steps import Task
    from featherdesk.compress.vocabulary import TrimVocabulary

    folder = tmp_path_factory.mktemp("trimmed")
    worded = folder / "worded"
    save_model(without_layers(open_model(tiny), [1]), tiny, worded)
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    letters = tokenizer.get_vocab()
    merges = [("d", "e"), ("l", "i"), ("de", "li"), ("b", "o"), ("o", "t"), ("bo", "ot")]
    words = {one + two: len(letters) + n for n, (one, two) in enumerate(merges)}
    tokenizer.model = models.BPE({**letters, **words}, merges)
    tokenizer.save(str(worded / "tokenizer.json"))
    material = Material((), (), ("boots and boots",))
    task = Task(worded, material, folder / "scratch", progress=False)
    TrimVocabulary(len(letters) + 2).run(worded, folder / "model", task)
    return folder / "model"

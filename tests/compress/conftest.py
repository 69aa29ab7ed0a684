"""A tiny seeded llama with a tokenizer of bytes, made on the spot."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, models

from ..tiny_llama import TALKATIVE, make_llama

if TYPE_CHECKING:
    from featherdesk.compress.steps import Task


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-layer llama of a few thousand weights."""
    return make_llama(tmp_path_factory.mktemp("tiny"), 0, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a head of its own: its greedy answers wander, where a tied one repeats."""
    return make_llama(tmp_path_factory.mktemp("talkative") / "model", 2, **TALKATIVE)


@pytest.fixture(scope="session")
def roomy(talkative: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talkative llama with places enough for a whole prompt in bytes, and a chat template."""
    import json
    import shutil

    folder = tmp_path_factory.mktemp("roomy") / "model"
    shutil.copytree(talkative, folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "max_position_embeddings": 4096}))
    (folder / "chat_template.jinja").write_text("<|im_start|>user\n{{ text }}<|im_end|>\n")
    return folder


@pytest.fixture(scope="session")
def shop_bot(roomy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bot folder of a small shop that serves the roomy llama in int4, without an adapter."""
    from featherdesk.compress.export import Quantization, export

    folder = tmp_path_factory.mktemp("shop")
    export(roomy, folder / "generator", Quantization())
    return bot_of(roomy, folder / "generator", folder / "bot")


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


@pytest.fixture(scope="session")
def narrowed(talkative: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talkative llama with a KV head and its query heads less in each layer, and channels."""
    from featherdesk.compress.channels import PruneChannels
    from featherdesk.compress.heads import PruneHeads

    folder = tmp_path_factory.mktemp("narrowed")
    task = task_of(talkative, folder)
    PruneHeads(1).run(talkative, folder / "heads", task)
    PruneChannels(96).run(folder / "heads", folder / "model", task)
    return folder / "model"


SHOP = (
    ("delivery", "How long does delivery take?", "Delivery takes 3 days and costs £4.95."),
    ("worn", "Can I return worn boots?", "No, worn boots cannot be returned."),
    ("pay", "How can I pay?", "We accept Visa, Mastercard and PayPal."),
    ("hours", "When is the York store open?", "The York store opens at 9:30."),
)


def bot_of(base: Path, generator: Path, folder: Path) -> Path:
    """A bot folder over four entries; words alone find them, so that no encoder is needed."""
    import shutil

    from featherdesk.agent.artifacts import Manifest, seal
    from featherdesk.agent.calibration import calibrate
    from featherdesk.agent.encoder import WordsOnly
    from featherdesk.agent.index import Index
    from featherdesk.agent.prompt import contract_hash
    from featherdesk.agent.types import Entry

    entries = [Entry(*told, (told[1].lower().rstrip("?"),)) for told in SHOP]
    index = Index.build(entries, WordsOnly())
    index.save(folder / "knowledge")
    calibrate(index, writes=("en",)).save(folder / "knowledge" / "calibration.json")
    shutil.copytree(generator, folder / "generator")
    (folder / "encoder").mkdir()
    (folder / "bot.toml").write_text(
        '[bot]\nname = "Shop"\nfaq = ["faq.csv"]\n'
        f'[generation]\nbase = "{base}"\nadapter = ""\nthreads = 1\nmax_tokens = 8\n'
    )
    told = Manifest(
        name="Shop",
        base=str(base),
        base_sha256="",
        adapter="none",
        prompt_contract=contract_hash(),
        writes=("en",),
        encoder=WordsOnly.id,
        entries=len(entries),
        languages=("en",),
        refusal=0.5,
    )
    seal(folder, told)
    return folder


FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text", "smollm3")


@pytest.fixture(scope="session", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a four-layer model of each architecture: 4 query heads, 2 KV heads."""
    return _made(str(request.param), tiny, tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="session")
def lively(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The llama of the families, whose words differ more than those of `tiny`."""
    return _made("llama", tiny, tmp_path_factory.mktemp("lively"))


def _made(kind: str, tiny: Path, folder: Path) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    told: dict[str, object] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "initializer_range": 0.1,
        "tie_word_embeddings": kind != "qwen3",
    }
    if kind != "qwen2":  # the one whose configuration has no head size of its own
        told["head_dim"] = 16
    if kind == "gemma3_text":
        told |= {"query_pre_attn_scalar": 16, "sliding_window": 64}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **told))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.1)
    model.save_pretrained(folder)
    for path in ("tokenizer.json", "tokenizer_config.json"):
        (folder / path).write_text((tiny / path).read_text())
    return folder


@pytest.fixture
def task(family: Path, tmp_path: Path) -> "Task":
    """What a step is given: rows of a few tokens, a scratch folder."""
    return task_of(family, tmp_path)


def task_of(parent: Path, scratch: Path, rows: int = 48) -> "Task":
    """A task with `rows` short rows of its own making."""
    from featherdesk.agent.types import Entry
    from featherdesk.compress.dataset import Question, Row
    from featherdesk.compress.material import Material
    from featherdesk.compress.steps import Task

    made = tuple(
        Row(
            (Entry("a", f"q{n}", f"a{n} costs {n * 7} euros"),),
            (Question(f"ask {n}", f"{n * 7} euros"),),
            str(n),
            "t",
        )
        for n in range(rows)
    )
    material = Material(made[rows // 8 :], made[: rows // 8], ("some words to read",))
    return Task(parent, material, scratch / "scratch", progress=False)


def kin(kind: str, tiny: Path, out: Path, **changed: Any) -> Path:
    """A tiny seeded model of an architecture, with the tokenizer of `tiny`."""
    import shutil

    import torch
    import transformers

    names = {
        "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
        "mistral": ("MistralConfig", "MistralForCausalLM"),
        "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
        "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
        "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM"),
    }
    config, model = (getattr(transformers, name) for name in names[kind])
    torch.manual_seed(2)
    settings: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
    }
    shutil.copytree(tiny, out)
    for name in ("model.safetensors", "generation_config.json"):
        (out / name).unlink(missing_ok=True)
    model(config(**settings | changed)).save_pretrained(out)
    return out

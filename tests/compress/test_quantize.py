import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.errors import CatalogError, ConfigError, FeatherdeskError
from featherdesk.compress.export_encoder import export_encoder
from featherdesk.compress.quantize import export_quantized, load_quantized
from tokenizers import Tokenizer

QUIET = pytest.mark.filterwarnings("ignore:.*(autograd|MatMul8bitLt|inputs will be cast).*")


def _greedy(model: Any, folder: Path) -> list[int]:
    import torch

    text = "How long does delivery take?"
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
    mask = torch.ones_like(ids)
    ids, mask = ids.to(model.device), mask.to(model.device)
    found = model.generate(ids, attention_mask=mask, max_new_tokens=16, do_sample=False)
    return [int(token) for token in found[0, ids.shape[1] :]]


@QUIET
@pytest.mark.parametrize(("kind", "correlation"), [("nf4", 0.9), ("int8", 0.99)])
def test_quantized_weights_compute_what_whole_ones_do(
    kind: str, correlation: float, talkative: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = load_quantized(talkative, kind, torch.float32, torch.device("cpu"))
    whole = AutoModelForCausalLM.from_pretrained(talkative).eval()
    assert model.get_memory_footprint() < whole.get_memory_footprint()
    assert len(set(_greedy(model, talkative))) > 4  # a tied model repeats one
    ids = torch.tensor([list(range(20, 60))])
    with torch.no_grad():
        pair = [one(input_ids=ids).logits.ravel() for one in (model, whole)]
        torch.nn.init.zeros_(whole.model.layers[1].mlp.down_proj.weight)
        broken = whole(input_ids=ids).logits.ravel()
    assert float(torch.corrcoef(torch.stack(pair))[0, 1]) > correlation
    assert float(torch.corrcoef(torch.stack([pair[0], broken]))[0, 1]) < correlation


@pytest.mark.needs_gpu
@pytest.mark.parametrize(("kind", "correlation"), [("nf4", 0.9), ("int8", 0.99)])
def test_a_gpu_serves_quantized_weights(
    kind: str, correlation: float, talkative: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    export_quantized(talkative, tmp_path / "q", kind)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "q", device_map="cuda").eval()
    whole = AutoModelForCausalLM.from_pretrained(talkative).eval()
    assert len(_greedy(model, talkative)) == 16
    ids = torch.tensor([list(range(20, 60))])
    with torch.no_grad():
        found, wanted = model(input_ids=ids.cuda()).logits.cpu(), whole(input_ids=ids).logits
    pair = torch.stack([found.float().ravel(), wanted.ravel()])
    assert float(torch.corrcoef(pair)[0, 1]) > correlation


@QUIET
@pytest.mark.parametrize("precision", ["nf4", "llm-int8"])
def test_a_quantized_folder_loads_as_it_is_and_answers_as_it_was_saved(
    precision: str, talkative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "q"
    command = ["quantize", str(talkative), "--out", str(out), "--precision", precision]
    code, told, said = _run(command, capsys)
    assert code == 0, said
    kind = "nf4" if precision == "nf4" else "int8"
    assert json.loads(told)["format"] == kind
    config = json.loads((out / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "bitsandbytes"
    assert config["quantization_config"]["load_in_4bit"] == (kind == "nf4")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert str(talkative) not in json.dumps(config)
    loaded = AutoModelForCausalLM.from_pretrained(out).eval()
    own = load_quantized(talkative, kind, device=torch.device("cpu"))
    answer = _greedy(loaded, out)
    assert len(set(answer)) > 8
    assert answer == _greedy(own, talkative)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.eos_token == "<|im_end|>"
    assert loaded.get_memory_footprint() == own.get_memory_footprint()


@QUIET
def test_a_folder_that_is_not_the_model_is_refused(
    talkative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featherdesk.compress import quantize as module

    load = module.load_quantized

    def scrambled(*given: Any) -> Any:
        import torch

        model = load(*given)
        with torch.no_grad():
            model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
        return model

    monkeypatch.setattr(module, "load_quantized", scrambled)
    with pytest.raises(FeatherdeskError, match="correlate with the whole model's"):
        export_quantized(talkative, tmp_path / "q", "nf4")
    assert not (tmp_path / "q").exists()


@QUIET
def test_quantized_weights_learn_through_an_adapter(tiny: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    model = load_quantized(tiny, "nf4", torch.float32, torch.device("cpu"))
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    ids = torch.tensor([list(range(20, 60))])
    tuned(input_ids=ids, labels=ids).loss.backward()
    moved = [p.grad for name, p in tuned.named_parameters() if "lora_B" in name]
    assert moved
    assert all(float(g.abs().sum()) > 0 for g in moved)


def test_an_unknown_kind_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="kind must be nf4 or int8, not 'fp4'"):
        load_quantized(tiny, "fp4")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="is not a model folder"):
        load_quantized(tmp_path, "nf4")


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    from featherdesk.agent.cli import main

    code = 0
    try:
        main(arguments)
    except SystemExit as done:
        code = int(str(done.code))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_a_generator_folder(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "g"
    options = ["--block-size", "64", "--symmetric", "--head", "int8", "--finer", "1"]
    code, told, _ = _run(["quantize", str(tiny), "--out", str(out), *options], capsys)
    assert code == 0
    found = json.loads(told)
    assert found["size_mb"] > 0
    assert found["parity"]["reference"] == "rounded model"
    assert {path.name for path in out.iterdir()} >= {"model.onnx", "tokenizer.json", "parity.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--block-size", "20"], "block_size must be one of 16, 32, 64, 128"),
        (["--finer", "31"], "the model has layers 0 to 1"),
        (["--precision", "fp16"], "add provider cuda"),
        (["--algorithm", "k_quant", "--symmetric"], "k_quant has zero points"),
        (["--precision", "nf4", "--block-size", "64"], "--block-size is a setting of ONNX graphs"),
    ],
)
def test_the_command_says_what_is_wrong(
    options: list[str],
    message: str,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "g"
    code, told, said = _run(["quantize", str(tiny), "--out", str(out), *options], capsys)
    assert code == 1
    assert not told
    assert message in said
    assert "Traceback" not in said
    assert not out.exists()


def test_the_export_command_takes_precision_and_block_size(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--precision", "int8", "--block-size", "128"]
    code, told, _ = _run(["export", str(tiny), "--out", str(tmp_path / "g"), *options], capsys)
    assert code == 0
    assert json.loads(told)["reference"] == "rounded model"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny seeded BERT with a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(3)
    characters = "abcdefghijklmnopqrstuvwxyz0123456789?!.,:'£+|<>_"
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*marks, *characters, *(f"##{one}" for one in characters)]
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=384,
        num_hidden_layers=2,
        num_attention_heads=12,
        intermediate_size=256,
        max_position_embeddings=512,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    words = models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(pad_id=0)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _operators(path: Path) -> set[str]:
    import onnx

    return {node.op_type for node in onnx.load(path).graph.node}


def test_encoders_are_fused_and_rounded_to_int8(bert: Path, tmp_path: Path) -> None:
    assert export_encoder(bert, tmp_path / "g") > 0.97
    found = _operators(tmp_path / "g" / "model.onnx")
    assert {"QAttention", "SkipLayerNormalization", "MatMulInteger"} <= found
    assert not found & {"MatMul", "Attention"}
    sizes = [(bert / "model.safetensors"), (tmp_path / "g" / "model.onnx")]
    assert sizes[1].stat().st_size < sizes[0].stat().st_size / 2
    assert {path.name for path in (tmp_path / "g").iterdir()} == {
        "model.onnx",
        "parity.json",
        "tokenizer.json",
    }


def test_a_fused_encoder_leaves_padding_out(bert: Path, tmp_path: Path) -> None:
    export_encoder(bert, tmp_path / "g")
    encoder = MiniLM(tmp_path / "g")
    texts = ["Boots?", "Can I return worn boots after thirty days, or only before?"]
    together = encoder.embed(texts)
    alone = np.concatenate([encoder.embed([text]) for text in texts])
    assert (together * alone).sum(1).min() > 0.99


def test_a_reranker_that_rounding_turns_is_not_written(bert: Path, tmp_path: Path) -> None:
    """A head of random weights tells entries apart by less than rounding moves them."""
    shutil.copytree(bert, tmp_path / "m")
    np.save(tmp_path / "m" / "head.npy", np.random.default_rng(4).normal(size=385))
    with pytest.raises(FeatherdeskError, match="the int8 reranker is not the model"):
        export_encoder(tmp_path / "m", tmp_path / "g")
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("form", "module"),
    [("portable", "portable"), ("huggingface", "huggingface"), ("gguf", "gguf_file")],
)
def test_the_export_command_knows_the_formats_of_others(
    form: str, module: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(f"featherdesk.compress.{module}")
    out = tmp_path / "g"
    code, told, said = _run(["export", str(tiny), "--out", str(out), "--format", form], capsys)
    assert code == 0, said
    assert isinstance(json.loads(told), dict)
    assert any(out.iterdir())

import json
import shutil
from pathlib import Path

import pytest
import torch
from featherdesk.compress import graph as module
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.gemma_graph import exact_embedding_scale
from transformers import Gemma3ForCausalLM, Gemma3TextConfig


@pytest.fixture(scope="module")
def gemma(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma whose scale is no short number: the square root of 40 is 6.3246."""
    folder = tmp_path_factory.mktemp("gemma")
    torch.manual_seed(8)
    config = Gemma3TextConfig(
        vocab_size=259,
        hidden_size=40,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        eos_token_id=2,
    )
    model = Gemma3ForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    shutil.copy(tiny / "tokenizer.json", folder / "tokenizer.json")
    return folder


def test_the_graph_scales_as_torch_does(
    gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the builder alone come as near one day, the module can go."""
    exact = export(gemma, tmp_path / "exact", Quantization(precision="fp32"))
    monkeypatch.setattr(module, "exact_embedding_scale", lambda *_: None)
    rounded = export(gemma, tmp_path / "rounded", Quantization(precision="fp32"))
    assert exact.largest < 5e-5
    assert rounded.largest > 10 * exact.largest


def test_a_layer_is_what_the_configuration_says(gemma: Path, tmp_path: Path) -> None:
    """As after removing layers: the sixth is no more the one that sees everything."""
    told = json.loads((gemma / "config.json").read_text())
    kinds = ["full_attention", "sliding_attention"]
    shutil.copytree(gemma, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({**told, "layer_types": kinds}))
    exact = export(tmp_path / "m", tmp_path / "g", Quantization(precision="fp32"))
    assert exact.largest < 5e-5


def test_other_graphs_stay_as_they_are(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not read")
    exact_embedding_scale(tiny, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == b"not read"

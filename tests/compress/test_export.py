import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from featherdesk.agent.errors import CatalogError, ConfigError, FeatherdeskError
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress import export as module
from featherdesk.compress.export import ExportFast, Quantization, export, size_mb
from featherdesk.compress.material import Material
from featherdesk.compress.steps import Task


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "generator"
    parity = export(tiny, out, Quantization("fp32"))
    assert parity.agreement == 1.0
    assert parity.largest < 1e-3
    return out


def test_only_what_serving_reads_is_written(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names <= {
        "model.onnx",
        "model.onnx.data",
        "genai_config.json",
        "tokenizer.json",
        "parity.json",
        "chat_template.jinja",
    }
    config = json.loads((exported / "genai_config.json").read_text())
    assert config["model"]["eos_token_id"] == 2


def test_decoding_with_kept_keys_equals_a_full_pass(exported: Path, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    generator = OnnxGenerator(exported, 1)
    ids = generator.encode("How long does delivery take?")
    got = [
        step.token
        for step in generator.generate(
            ids, max_tokens=12, deadline=time.monotonic() + 60, stopped=lambda: False
        )
    ]
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    wanted = list(ids)
    with torch.no_grad():
        for _ in range(12):
            token = int(model(input_ids=torch.tensor([wanted])).logits[0, -1].argmax())
            if token == 2:
                break
            wanted.append(token)
    assert got == wanted[len(ids) :]


def test_the_first_token_can_be_vetoed_and_forced(exported: Path) -> None:
    generator = OnnxGenerator(exported, 1)
    ids = generator.encode("hello")
    best = int(generator.logits(ids)[-1].argmax())

    def first(token: int, threshold: float) -> int:
        steps = generator.generate(
            ids,
            max_tokens=1,
            deadline=time.monotonic() + 60,
            stopped=lambda: False,
            first_veto=(token, threshold),
        )
        return next(steps).token

    assert first(best, 1.1) != best
    assert first(77, 0.0) == 77
    assert np.isclose(generator.first(ids, [best]).sum(), generator.first(ids, [best])[0])


def test_a_deadline_that_passed_is_an_error(exported: Path) -> None:
    from featherdesk.agent.errors import GenerationError

    with pytest.raises(GenerationError, match="too long"):
        list(
            OnnxGenerator(exported, 1).generate(
                [5], max_tokens=3, deadline=time.monotonic() - 1, stopped=lambda: False
            )
        )


def test_a_wrong_graph_fails_loudly_and_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module._build

    def damaged(model: Path, out: Path, plan: Quantization, texts: Sequence[str]) -> None:
        build(model, out, plan, texts)
        data = out / "model.onnx.data"
        weights = np.fromfile(data, np.float32)
        weights[: len(weights) // 2] = 0.01
        weights.tofile(data)

    monkeypatch.setattr(module, "_build", damaged)
    with pytest.raises(FeatherdeskError, match="is not the model"):
        export(tiny, tmp_path / "g", Quantization("fp32"))
    assert not list(tmp_path.iterdir())


def _change(folder: Path, wanted: str, change: Any) -> None:
    """Change the initializers of a graph whose name holds `wanted`."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "model.onnx")
    found = [one for one in model.graph.initializer if wanted in one.name]
    assert found
    for tensor in found:
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    (folder / "model.onnx").unlink()
    (folder / "model.onnx.data").unlink()
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data"
    )


@pytest.mark.parametrize("precision", ["int4", "int8"])
@pytest.mark.parametrize("part", ["layers.1.attn.qkv_proj", "layers.0.mlp.down_proj", "lm_head"])
def test_scales_scrambled_in_one_matrix_are_an_error(
    precision: str, part: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module._build

    def scrambled(model: Path, out: Path, plan: Quantization, texts: Sequence[str]) -> None:
        build(model, out, plan, texts)
        shuffle = np.random.default_rng(3).permutation
        _change(out, f"{part}.MatMul.weight.scales", lambda a: shuffle(a.ravel()).reshape(a.shape))

    monkeypatch.setattr(module, "_build", scrambled)
    with pytest.raises(FeatherdeskError, match=r"is not the rounded model.*nothing was written"):
        export(_spread(tiny, tmp_path / "m"), tmp_path / "g", Quantization(precision))
    assert not (tmp_path / "g").exists()


def _spread(source: Path, out: Path) -> Path:
    """The model with rows of unlike size, as learned ones are: their scales differ."""
    import torch
    from transformers import AutoModelForCausalLM

    shutil.copytree(source, out)
    model = AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                rows = module.weight.shape[0]
                module.weight.mul_(4 * torch.exp(0.7 * torch.randn(rows, 1)))
    model.save_pretrained(out)
    return out

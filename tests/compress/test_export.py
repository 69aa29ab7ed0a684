import json
import time
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress import export as module
from featherdesk.compress.export import Precision, export


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "generator"
    parity = export(tiny, out, Precision.FP32)
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

    def damaged(model: Path, out: Path, precision: Precision, block_size: int) -> None:
        build(model, out, precision, block_size)
        data = out / "model.onnx.data"
        weights = np.fromfile(data, np.float32)
        weights[: len(weights) // 2] = 0.01
        weights.tofile(data)

    monkeypatch.setattr(module, "_build", damaged)
    with pytest.raises(FeatherdeskError, match="is not the model"):
        export(tiny, tmp_path / "g", Precision.FP32)
    assert not list(tmp_path.iterdir())

"""Every adapter method through the whole path: train, merge, export, answer."""

import time
from pathlib import Path

import pytest
import torch
from featherdesk.agent.prompt import render
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.types import Entry
from featherdesk.compress.dataset import Question, Row
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.finetune import finetune
from featherdesk.compress.methods import Method, TrainingConfig
from featherdesk.compress.model import merge
from transformers import AutoModelForCausalLM

ENTRIES = tuple(Entry(f"e{n}", f"q{n}", f"a{n}") for n in range(6))


def _rows() -> list[Row]:
    return [
        Row((ENTRIES[n % 6],), (Question(f"ask {n}", f"a{n % 6}"),), str(n), "t", n % 2 == 0)
        for n in range(24)
    ]


def _torch_says(folder: Path, ids: list[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    given = list(ids)
    with torch.no_grad():
        while len(given) < len(ids) + count:
            token = int(model(input_ids=torch.tensor([given])).logits[0, -1].argmax())
            if token == 2:
                break
            given.append(token)
    return given[len(ids) :]


def _onnx_says(folder: Path, ids: list[int], count: int) -> list[int]:
    steps = OnnxGenerator(folder, 1).generate(
        ids, max_tokens=count, deadline=time.monotonic() + 300, stopped=lambda: False
    )
    return [step.token for step in steps]


@pytest.mark.parametrize("method", list(Method))
def test_a_trained_adapter_goes_through_to_onnx(tiny: Path, tmp_path: Path, method: Method) -> None:
    rows = _rows()
    config = TrainingConfig(
        method=method,
        rank=4,
        alpha=8,
        max_steps=8,
        evaluate_every=4,
        length=256,
        learning_rate=2e-2,
    )
    result = finetune(tiny, rows[:20], rows[20:], tmp_path / "adapter", config, progress=False)
    assert result.validation_loss < result.first_validation_loss
    merged = tmp_path / "merged"
    merge(tiny, tmp_path / "adapter", merged)

    whole = export(merged, tmp_path / "fp32", Quantization(precision="fp32"))
    assert whole.largest <= 1e-3
    assert whole.agreement == 1.0
    prompt = "".join(render((ENTRIES[0],), "ask 0").texts)
    ids = OnnxGenerator(tmp_path / "fp32", 1).encode(prompt)
    wanted = _torch_says(merged, ids, 24)
    assert wanted
    assert _onnx_says(tmp_path / "fp32", ids, 24) == wanted
    assert _torch_says(tiny, ids, 24) != wanted

    small = export(merged, tmp_path / "int4", Quantization())
    assert small.agreement >= 0.98
    size = {name: (tmp_path / name / "model.onnx.data").stat().st_size for name in ("fp32", "int4")}
    assert size["int4"] < size["fp32"]

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from featherdesk.compress.architecture import layers_of, open_model
from featherdesk.compress.rounding import rounded, rounded_adapted, rounded_weights


def _onnxruntime(weight: np.ndarray, block: int) -> np.ndarray:
    """What the quantizer of the export makes of (out, in), multiplied out by onnxruntime."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        MatMulNBitsQuantizer,
        RTNWeightOnlyQuantConfig,
    )

    rows, columns = weight.shape
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [columns, columns])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [columns, rows])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    logging.disable(logging.WARNING)
    try:
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=4,
            block_size=block,
            is_symmetric=False,
            accuracy_level=1,
            algo_config=RTNWeightOnlyQuantConfig(),
        )
        quantizer.process()
    finally:
        logging.disable(logging.NOTSET)
    made = quantizer.model.model
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert made.graph.node[0].op_type == "MatMulNBits"
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return np.asarray(session.run(None, {"x": np.eye(columns, dtype=np.float32)})[0]).T


@pytest.mark.parametrize(("columns", "block"), [(64, 32), (128, 64), (112, 32), (64, 16)])
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_it_rounds_as_the_export_does(columns: int, block: int, shift: float) -> None:
    weight = torch.randn(40, columns, generator=torch.Generator().manual_seed(0)) + shift
    weight[3] = 0
    weight[4] = 0.7
    wanted = _onnxruntime(weight.numpy(), block)
    got = rounded(weight, block).numpy()
    other = np.abs(got - wanted) > 1e-4
    assert other.mean() < 1e-3  # what lies halfway between two levels may fall to either side
    assert np.abs(got - wanted).max() < 0.6


def test_zeros_stay_zeros() -> None:
    weight = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    weight[weight.abs() < 0.5] = 0
    assert (rounded(weight, 32)[weight == 0] == 0).all()


def test_gradients_pass_straight_through_and_weights_come_back(family: Path) -> None:
    model = open_model(family)
    part = layers_of(model)[0].mlp.up_proj
    before = part.weight.detach().clone()
    inputs = torch.ones(1, 64)
    with rounded_weights(model, 4, 32):
        assert not torch.equal(part.weight, before)
        part(inputs).sum().backward()
    assert isinstance(part.weight, torch.nn.Parameter)
    assert torch.equal(part.weight, before)
    assert torch.equal(part.weight.grad, torch.ones_like(before))


def test_embeddings_round_with_a_tied_head_alone(family: Path) -> None:
    model = open_model(family)
    words, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = words.weight is head.weight
    before = words.weight.detach().clone()
    with rounded_weights(model, 4, 32):
        assert (words.weight is head.weight) == tied
        assert torch.equal(words.weight, before) != tied  # the export keeps them as floats, then


def test_base_and_adapter_come_to_the_rounded_weights_of_both_merged(tiny: Path) -> None:
    from featherdesk.compress.methods import TrainingConfig, with_adapter

    config = TrainingConfig(rank=4, alpha=8, bits=4)
    model = with_adapter(tiny, config, torch.device("cpu"), None, 1).float()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.05)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ids = torch.arange(12)[None]
    with torch.no_grad(), rounded_adapted(model, 4, 32):
        trained = model(input_ids=ids).logits
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name
    merged = model.merge_and_unload()
    with torch.no_grad():
        plain = merged(input_ids=ids).logits
        with rounded_weights(merged, 4, 32):
            exported = merged(input_ids=ids).logits
    assert (trained - exported).abs().max() < 1e-4 < (plain - exported).abs().max()

"""onnxruntime's own GPTQ beside rounding to the nearest, as int4 weights of one model.

    python tests/measure_gptq.py MODEL OUT [--rows 12] [--block-size 32]

MODEL is a folder of transformers, OUT one for graphs. The float graph of the fast export is rounded by
`MatMulNBitsQuantizer` with each configuration; GPTQ (Frantar et al., arXiv 2210.17323) calibrates on
prompts of shipped topics. Then all read other prompts: how far the logits lie from those of the float
graph, as a share of their spread, and at how many places the likeliest token is the same. The two
halves of `--rows` are calibrated and judged by. Prints a table as it goes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.material import encoded, shipped_material
from featherdesk.compress.model import load_tokenizer
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    GPTQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

Feed = dict[str, NDArray[Any]]


class Prompts(CalibrationDataReader):
    """What the graph reads, one prompt at a time."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = iter(list(feeds))
        self.batch_size = 1

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[Feed]:
        return self

    def __next__(self) -> Feed:
        return next(self._feeds)

    def __deepcopy__(self, _: object) -> "Prompts":
        return self  # the quantizer copies its reader; iterators cannot be copied


def feeds_of(graph: Path, prompts: list[list[int]]) -> list[Feed]:
    """Inputs of the graph for whole prompts: nothing stands before them."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    empty = {
        one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), np.float32)
        for one in session.get_inputs()
        if one.name.startswith("past_key_values.")
    }
    return [
        {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            **empty,
        }
        for ids in prompts
    ]


def logits(graph: Path, feeds: list[Feed]) -> NDArray[np.float32]:
    """Logits of every place of every prompt, shape (places, vocabulary)."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], feed)[0][0] for feed in feeds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--block-size", type=int, default=32)
    given = parser.parse_args()
    whole = given.out / "fp32"
    if not whole.exists():
        export(given.model, whole, Quantization("fp32"))
    rows = shipped_material(8 * given.rows).rows
    tokens = encoded(rows, (), load_tokenizer(given.model))[: given.rows]
    feeds = feeds_of(whole / "model.onnx", [one.ids.tolist() for one in tokens])
    known, held = feeds[::2], feeds[1::2]
    wanted = logits(whole / "model.onnx", held)
    size = given.block_size
    ways = {
        "round to nearest": lambda: DefaultWeightOnlyQuantConfig(
            block_size=size, is_symmetric=False, op_types_to_quantize=("MatMul",)
        ),
        "GPTQ": lambda: GPTQWeightOnlyQuantConfig(Prompts(known)),
        "GPTQ, actorder": lambda: GPTQWeightOnlyQuantConfig(Prompts(known), actorder=True),
        "GPTQ, mse": lambda: GPTQWeightOnlyQuantConfig(Prompts(known), mse=True),
    }
    print(f"{len(wanted)} places of {len(held)} prompts, blocks of {size}", flush=True)
    print("| int4 weights | distance of the logits / their spread | same token, % |\n|---|---|---|")
    for name, config in ways.items():
        quantizer = MatMulNBitsQuantizer(
            onnx.load(str(whole / "model.onnx")), 4, size, algo_config=config()
        )
        quantizer.process()
        graph = given.out / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
        graph.unlink(missing_ok=True)
        graph.with_suffix(".data").unlink(missing_ok=True)
        quantizer.model.save_model_to_file(str(graph), use_external_data_format=True)
        told = logits(graph, held)
        apart = float(np.sqrt(np.mean((told - wanted) ** 2)) / wanted.std())
        same = float((told.argmax(-1) == wanted.argmax(-1)).mean())
        print(f"| {name} | {apart:.4f} | {100 * same:.1f} |", flush=True)


if __name__ == "__main__":
    main()

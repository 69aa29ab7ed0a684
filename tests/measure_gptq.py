"""onnxruntime's GPTQ against rounding to the nearest, on one graph: what the logits lose.

    python tests/measure_gptq.py MODEL [--block-size 32] [--prompts 12]

MODEL is a catalogue id or a folder. Both round the same float graph to int4 with the same tool
(`MatMulNBitsQuantizer`), all matrices but the head; GPTQ is calibrated on the half of the prompts
whose row it prints first. Prints, for each half, how far logits lie from those of the float graph
(root mean square, over the spread of the float ones) and how often they choose the same token.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.graph import quiet
from featherdesk.compress.material import shipped_material
from featherdesk.compress.subject import find_subject
from featherdesk.compress.wide import _feeds
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import (
    GPTQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
    RTNWeightOnlyQuantConfig,
)
from tokenizers import Tokenizer

_HEAD = "/lm_head/MatMul"

Feed = dict[str, NDArray[Any]]


class Prompts(CalibrationDataReader):
    """Feeds one after another, as the library asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._left: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._left, None)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds)


def logits(path: Path, feeds: Sequence[Feed]) -> list[NDArray[np.float32]]:
    """Of every place of every prompt."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [session.run(["logits"], feed)[0][0] for feed in feeds]


def told(whole: Sequence[NDArray[np.float32]], other: Sequence[NDArray[np.float32]]) -> str:
    """Distance over spread, and share of equal choices."""
    a, b = np.concatenate(whole), np.concatenate(other)
    distance = float(np.sqrt(((a - b) ** 2).mean()) / a.std())
    return f"{distance:.4f} | {100 * float((a.argmax(-1) == b.argmax(-1)).mean()):.1f} %"


@click.command()
@click.argument("model")
@click.option("--block-size", type=click.Choice(["16", "32", "64", "128"]), default="32")
@click.option("--prompts", type=click.IntRange(2), default=12, show_default=True)
def main(model: str, block_size: str, prompts: int) -> None:
    """Round MODEL's graph by every method and hold the logits against the float ones."""
    ways: dict[str, Any] = {
        "nearest": RTNWeightOnlyQuantConfig(),
        "GPTQ": GPTQWeightOnlyQuantConfig(),
        "GPTQ, mse": GPTQWeightOnlyQuantConfig(mse=True),
    }
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        export(find_subject(model, place).parent, place / "whole", Quantization("fp32"))
        graph = place / "whole" / "model.onnx"
        tokenizer = Tokenizer.from_file(str(place / "whole" / "tokenizer.json"))
        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        texts = islice(shipped_material(prompts).wholes(), prompts)
        config = json.loads((place / "whole" / "genai_config.json").read_text())
        decoder = config["model"]["decoder"]
        shape = (1, decoder["num_key_value_heads"], 0, decoder["head_size"])
        feeds = [_feeds(session, tokenizer.encode(text).ids, shape) for text in texts]
        half = len(feeds) // 2
        whole = logits(graph, feeds)
        click.echo("| | calibrated on: distance | same token | others: distance | same token |")
        click.echo("|---|---|---|---|---|")
        for way, how in ways.items():
            if isinstance(how, GPTQWeightOnlyQuantConfig):
                how.calibration_data_reader = Prompts(feeds[:half])
            rounding = MatMulNBitsQuantizer(
                onnx.load(graph),
                block_size=int(block_size),
                nodes_to_exclude=[_HEAD],
                algo_config=how,
            )
            with quiet():
                rounding.process()
            rounded = place / "rounded.onnx"
            onnx.save_model(
                rounding.model.model, rounded, save_as_external_data=True, location="rounded.data"
            )
            found = logits(rounded, feeds)
            (place / "rounded.data").unlink()
            known, others = told(whole[:half], found[:half]), told(whole[half:], found[half:])
            click.echo(f"| {way} | {known} | {others} |")


if __name__ == "__main__":
    main()

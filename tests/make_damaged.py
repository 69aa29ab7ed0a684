"""Damages a bot on purpose, in four ways, for the gate to refuse.

    python tests/make_damaged.py BOT OUT [--layer 12]

OUT holds a bot folder each: `zeroed` (a layer that adds nothing), `template` (the marks of the
chat template are other ones), `end` (another end token), `scrambled` (the int4 scales of one layer in
another order). Parity would have kept the graphs of the first and the last from being written;
here they are changed afterwards, as a broken disk or a bad copy would.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
from featherdesk.compress.compression import bot_with
from numpy.typing import NDArray
from onnx import external_data_helper, numpy_helper

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def change_scales(generator: Path, layer: int, change: Change) -> None:
    """Change the scales of every int4 matrix of one layer, where they lie."""
    path = generator / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    names = {
        node.input[2]
        for node in model.graph.node
        if node.op_type == "MatMulNBits" and f"/layers.{layer}/" in node.name
    }
    if not names:
        raise SystemExit(f"{path} has no int4 matrices in layer {layer}")
    for tensor in model.graph.initializer:
        if tensor.name in names:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                fresh = change(np.array(numpy_helper.to_array(tensor)))
                tensor.raw_data = fresh.astype(np.float32).tobytes()
                continue
            where = external_data_helper.ExternalDataInfo(tensor)
            data = np.memmap(
                generator / where.location, np.float32, "r+", where.offset, tuple(tensor.dims)
            )
            data[:] = change(np.array(data))
            data.flush()
    path.write_bytes(model.SerializeToString())


def zeroed(generator: Path, layer: int) -> None:
    change_scales(generator, layer, np.zeros_like)


def scrambled(generator: Path, layer: int) -> None:
    shuffle = np.random.default_rng(3).permutation
    change_scales(generator, layer, lambda scales: shuffle(scales.ravel()).reshape(scales.shape))


def template(generator: Path, _: int) -> None:
    """As if it had been exported with another model's template: its marks are known, ours are not."""
    for name in ("tokenizer.json", "chat_template.jinja"):
        path = generator / name
        told = path.read_text(encoding="utf-8")
        told = told.replace("<|im_start|>", "<start_of_turn>").replace(
            "<|im_end|>", "<end_of_turn>"
        )
        path.write_text(told, encoding="utf-8")


def end(generator: Path, _: int) -> None:
    path = generator / "genai_config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["model"]["eos_token_id"] = 0
    path.write_text(json.dumps(told, indent=1), encoding="utf-8")


@click.command()
@click.argument("bot", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layer", type=click.IntRange(0), default=12, show_default=True)
def main(bot: Path, out: Path, *, layer: int) -> None:
    """Write the four damaged bots."""
    for damage in (zeroed, template, end, scrambled):
        scratch = out / f".{damage.__name__}"
        shutil.copytree(bot / "generator", scratch)
        damage(scratch, layer)
        bot_with(bot, scratch, out / damage.__name__)
        shutil.rmtree(scratch)
        click.echo(out / damage.__name__)


if __name__ == "__main__":
    main()

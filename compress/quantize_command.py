"""The command `quantize`: a model folder in, a folder with rounded weights out."""

import json
from pathlib import Path

import click
from click.core import ParameterSource

from ..agent.errors import ConfigError

__all__ = ["quantize"]

_TORCH = {"nf4": "nf4", "llm-int8": "int8"}
"""Precisions of torch, and what `quantize.load_quantized` calls them."""
_GRAPHS_ALONE = ("block_size", "symmetric", "algorithm", "head", "finer", "kv", "provider")


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder.")
@click.option(
    "--precision",
    type=click.Choice(["int4", "int8", "fp16", "bf16", "fp32", *_TORCH]),
    default="int4",
    show_default=True,
    help="Of an ONNX graph; nf4, llm-int8: of a folder for transformers and vLLM (bitsandbytes).",
)
@click.option("--block-size", type=int, default=32, show_default=True, help="16, 32, 64 or 128.")
@click.option("--symmetric", is_flag=True, help="No zero points: a little smaller.")
@click.option(
    "--algorithm", type=click.Choice(["rtn", "k_quant"]), default="rtn", show_default=True
)
@click.option("--head", default="", help="int4 or int8: of output head and shared word vectors.")
@click.option(
    "--finer", type=int, multiple=True, metavar="LAYER", help="Keep this layer in int8; repeat."
)
@click.option("--kv", default="", help="int8: keys and values in a byte each.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def quantize(
    model: str,
    *,
    out: Path,
    precision: str,
    block_size: int,
    symmetric: bool,
    algorithm: str,
    head: str,
    finer: tuple[int, ...],
    kv: str,
    provider: str,
) -> None:
    """Round the weights of a model (catalogue id or folder), with proof.

    A graph is held against the same rounding in torch, what torch loads against what was saved;
    one that computes something else is an error and leaves nothing behind.
    """
    if precision in _TORCH:
        click.echo(json.dumps(_for_torch(model, out, precision)))
        return
    from .commands import GRAPH, needs_train, say

    needs_train(*GRAPH)
    from ..agent.destination import check_destination
    from .assemble import assemble_generator
    from .measure import size_mb
    from .precision import Quantization

    plan = Quantization(
        precision, block_size, symmetric, algorithm, head, tuple(finer), kv, provider
    )
    check_destination(out, model)
    parity = assemble_generator(model, None, out, plan, say)
    click.echo(json.dumps({"size_mb": size_mb(out), "parity": parity}))


def _for_torch(model: str, out: Path, precision: str) -> dict[str, object]:
    context = click.get_current_context()
    for name in _GRAPHS_ALONE:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise ConfigError(
                f"--{name.replace('_', '-')} is a setting of ONNX graphs; leave it out with "
                f"--precision {precision}"
            )
    from .commands import needs_train, say

    needs_train("bitsandbytes")
    from ..agent.destination import check_destination
    from .assemble import assemble_base
    from .quantize import export_quantized

    check_destination(out, model)
    return export_quantized(assemble_base(model, say), out, _TORCH[precision], notify=say)

"""The command `quantize`: a model folder in, a generator folder with rounded weights out."""

import json
from pathlib import Path

import click

__all__ = ["quantize"]


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The generator folder.")
@click.option(
    "--precision",
    type=click.Choice(["int4", "int8", "fp16", "bf16", "fp32"]),
    default="int4",
    show_default=True,
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

    The graph is held against the same rounding in torch; one that computes something else is an
    error and leaves nothing behind.
    """
    from .commands import GRAPH, needs_train, say

    needs_train(*GRAPH)
    from .assemble import assemble_generator
    from .destination import check_destination
    from .measure import size_mb
    from .precision import Quantization

    plan = Quantization(
        precision, block_size, symmetric, algorithm, head, tuple(finer), kv, provider
    )
    check_destination(out, model)
    parity = assemble_generator(model, None, out, plan, say)
    click.echo(json.dumps({"size_mb": size_mb(out), "parity": parity}))

"""What 2:4 zeros bring on an NVIDIA GPU: one model dense, and as its tensor cores skip them.

Both run in fp16 through torch, in turn in one process: whole prompts, and one token a text without
a past, so that the matrices alone are compared. Knows nothing of how the zeros were chosen.

`python -m featherdesk.compress.sparse_speed MODEL` prints what it measured as JSON.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from ..agent.errors import FeatherdeskError
from ..agent.progress import track
from .architecture import open_model
from .measured import Spread, spread
from .sparsity import accelerate, check_sparse_cores

__all__ = ["Pass", "race"]


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass over `batch` texts of `tokens` each. `times` is how often as fast the sparse model is,
    round by round; `equal` the share of positions with the same likeliest token."""

    batch: int
    tokens: int
    dense_ms: Spread
    sparse_ms: Spread
    times: Spread
    equal: float


@torch.inference_mode()  # type: ignore[untyped-decorator]
def race(
    dense: Any, sparse: Any, shapes: Sequence[tuple[int, int]], rounds: int = 20
) -> list[Pass]:
    """Both models on the same random tokens of each shape (texts, tokens), in turn; the first round
    of a shape is not counted."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for batch, tokens in track(shapes, "shapes"):
        ids = torch.randint(dense.config.vocab_size, (batch, tokens), generator=generator)
        ids = ids.to(dense.device)
        likeliest = [model(input_ids=ids).logits.argmax(-1) for model in (dense, sparse)]
        equal = float((likeliest[0] == likeliest[1]).float().mean())
        seconds: dict[int, list[float]] = {0: [], 1: []}
        for number in range(rounds):
            for side in (0, 1) if number % 2 else (1, 0):
                seconds[side].append(_pass((dense, sparse)[side], ids))
        pairs = zip(seconds[0], seconds[1], strict=True)
        found.append(
            Pass(
                batch,
                tokens,
                spread([1000 * one for one in seconds[0]], 3),
                spread([1000 * one for one in seconds[1]], 3),
                spread([one / max(other, 1e-9) for one, other in pairs], 3),
                round(equal, 4),
            )
        )
    return found


def _pass(model: Any, ids: torch.Tensor) -> float:
    """Seconds of a pass, up to the likeliest next token of each text on the host."""
    began = time.perf_counter()
    model(input_ids=ids, use_cache=False, logits_to_keep=1).logits.argmax(-1).tolist()
    return time.perf_counter() - began


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--batch", "batches", type=click.IntRange(1), multiple=True, default=(1, 8, 32))
@click.option("--tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
def _main(model: Path, *, batches: tuple[int, ...], tokens: int, rounds: int) -> None:
    """Time a model that `prune --sparsity 2:4` left, on this machine's NVIDIA GPU."""
    try:
        check_sparse_cores()
        dense, sparse = (open_model(model, torch.float16).to("cuda") for _ in range(2))
        matrices = accelerate(sparse)
    except FeatherdeskError as error:
        raise click.ClickException(str(error)) from None
    shapes = [(batch, length) for length in (tokens, 1) for batch in batches]
    told = {
        "model": str(model),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "matrices": matrices,
        "passes": [asdict(one) for one in race(dense, sparse, shapes, rounds)],
    }
    click.echo(json.dumps(told, indent=1))


if __name__ == "__main__":
    _main()

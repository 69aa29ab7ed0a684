"""The commands prune and distill: cut a model smaller, and heal it. Import torch when they run."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..agent.errors import ConfigError
from .commands import needs_train, say

if TYPE_CHECKING:
    from .steps import Done, Step

__all__ = ["distill", "prune"]


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model folder.")
@click.option("--adapter", default="", help="Merge this adapter first.")
@click.option("--vocabulary", type=int, help="Keep this many tokens.")
@click.option("--layers", type=int, help="Remove this many layers.")
@click.option("--heads", type=int, help="Keep this many KV heads a layer, with their queries.")
@click.option("--channels", type=int, help="Keep this many feed-forward channels a layer.")
@click.option("--sparsity", metavar="SHARE|2:4", default="", help="Set weights to zero.")
@click.option(
    "--by",
    type=click.Choice(["magnitude", "wanda", "sparsegpt"]),
    default="wanda",
    show_default=True,
    help="How --sparsity chooses.",
)
@click.option(
    "--calibration",
    default="",
    metavar="BOT.toml|ROWS.jsonl|TEXT.txt",
    help="What importance is measured on [topics that ship].",
)
@click.option(
    "--compact", type=click.Path(path_type=Path), help="Also store it here without its zeros."
)
@click.option("--seed", type=int, default=7, show_default=True)
def prune(
    model: str,
    *,
    out: Path,
    adapter: str,
    vocabulary: int | None,
    layers: int | None,
    heads: int | None,
    channels: int | None,
    sparsity: str,
    by: str,
    calibration: str,
    compact: Path | None,
    seed: int,
) -> None:
    """Cut a model (catalogue id or folder) smaller: vocabulary, layers, heads, channels, zeros.

    The same command given again after an interruption goes on where it was. A folder made by
    --compact is a MODEL too; without any cut it is written as it was.
    """
    needs_train()
    from ..agent.destination import check_destination
    from .channels import PruneChannels
    from .compact import compact as store
    from .heads import PruneHeads
    from .layers import RemoveLayers
    from .vocabulary import TrimVocabulary

    steps: list[tuple[str, Step]] = []
    if vocabulary is not None:
        steps.append(("vocabulary", TrimVocabulary(vocabulary)))
    if layers is not None:
        steps.append(("layers", RemoveLayers(layers)))
    if heads is not None:
        steps.append(("heads", PruneHeads(heads)))
    if channels is not None:
        steps.append(("channels", PruneChannels(channels)))
    if sparsity:
        steps.append(("sparsity", _sparsify(sparsity, by)))
    if compact is not None:
        check_destination(compact, model, out, calibration)
    done = _run(model, out, adapter, "", calibration, seed, steps)
    told = _told(out, done)
    if compact is not None:
        told["compact_bytes"] = store(out, compact).compact
    if done:
        say(
            f"{out} is pruned and not healed: it answers worse than it could. Next: featherdesk "
            f"distill {out} --parent {model} --out HEALED (with the same --adapter, if any)"
        )
    click.echo(json.dumps(told))


def _sparsify(told: str, by: str) -> "Step":
    from .sparsity import SPEED, Sparsify

    say(SPEED)
    if told == "2:4":
        return Sparsify(pattern=told, by=by)
    try:
        share = float(told)
    except ValueError:
        raise ConfigError(f"--sparsity is a share such as 0.5, or 2:4, not {told!r}") from None
    return Sparsify(share, by=by)


@click.command()
@click.argument("model")
@click.option("--parent", required=True, help="What it was pruned from: catalogue id or folder.")
@click.option("--adapter", default="", help="Merge this adapter into the parent first.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model folder.")
@click.option("--tokens", type=int, default=1_500_000, show_default=True)
@click.option("--minutes", type=float, default=0.0, help="Stop learning after this long.")
@click.option("--method", type=click.Choice(["full", "lora"]), default="full", show_default=True)
@click.option("--learning-rate", type=float, default=3e-4, show_default=True)
@click.option("--batch", type=int, default=8, show_default=True)
@click.option("--bits", type=click.Choice(["0", "4"]), default="0", help="Learn rounded to int4.")
@click.option("--block-size", type=int, default=32, show_default=True, help="Of that rounding.")
@click.option("--compiled/--no-compiled", default=True, help="torch.compile: slow start, faster.")
@click.option(
    "--calibration",
    default="",
    metavar="BOT.toml|ROWS.jsonl|TEXT.txt",
    help="What it learns on [topics that ship].",
)
@click.option("--seed", type=int, default=7, show_default=True)
def distill(
    model: str,
    *,
    parent: str,
    adapter: str,
    out: Path,
    tokens: int,
    minutes: float,
    method: str,
    learning_rate: float,
    batch: int,
    bits: str,
    block_size: int,
    compiled: bool,
    calibration: str,
    seed: int,
) -> None:
    """Heal a pruned model: it learns to say what its parent says.

    The same command given again after an interruption goes on from the last checkpoint.
    """
    needs_train()
    from .distill import Heal

    step = Heal(
        method=method,
        tokens=tokens,
        minutes=minutes,
        learning_rate=learning_rate,
        batch=batch,
        bits=int(bits),
        block_size=block_size,
        compiled=compiled,
    )
    done = _run(model, out, adapter, parent, calibration, seed, [("heal", step)])
    click.echo(json.dumps(_told(out, done)))


def _run(
    model: str,
    out: Path,
    adapter: str,
    parent: str,
    calibration: str,
    seed: int,
    steps: "Sequence[tuple[str, Step]]",
) -> "list[Done]":
    """Run the steps in a folder beside `out` and put the last one's model in its place."""
    from ..agent.artifacts import place
    from ..agent.destination import COMPRESSION, check_destination
    from ..agent.generators import adapter_folder
    from .assemble import assemble_base
    from .material import material_of
    from .model import write_atomically
    from .steps import Task, check_fit, run_steps

    check_destination(out, model, parent, adapter_folder(adapter), calibration)
    work = out.parent / f".{out.name}-work"
    base = _plain(assemble_base(model, say), work)
    check_fit(steps, base)
    material = material_of(calibration, seed)
    if parent:
        source, origin = base, _merged(parent, adapter, work)
    else:
        source = origin = _merged(model, adapter, work) if adapter else base
        if not steps and base != work / "plain":
            raise click.UsageError(
                "nothing to cut: give --vocabulary, --layers, --heads, --channels or --sparsity"
            )
    done = run_steps(steps, source, work, Task(origin, material, work / "scratch", say, seed))
    made = done[-1].folder if done else source

    def write(folder: Path) -> None:
        place(made, folder)
        if done:
            (folder / COMPRESSION).unlink(missing_ok=True)  # a link: of what it was made from
            (folder / COMPRESSION).write_text(json.dumps(_steps(done), indent=1), encoding="utf-8")

    write_atomically(out, write)
    shutil.rmtree(work, ignore_errors=True)
    return done


def _merged(name: str, adapter: str, work: Path) -> Path:
    """The folder of a base model, with an adapter merged into it."""
    from ..agent.generators import adapter_folder, check_adapter
    from .assemble import assemble_base
    from .model import merge

    chosen = adapter_folder(adapter)
    base = assemble_base(name, say)
    if chosen is None:
        return base
    check_adapter(name, chosen)
    say(f"merging {chosen.name}")
    merge(base, chosen, work / "merged")
    return work / "merged"


def _plain(folder: Path, work: Path) -> Path:
    """The folder, or what a compact one stands for."""
    from .compact import expand, is_compact

    if not is_compact(folder):
        return folder
    expand(folder, work / "plain")
    return work / "plain"


def _told(out: Path, done: "Sequence[Done]") -> dict[str, Any]:
    return {
        "folder": str(out),
        "bytes": sum(path.stat().st_size for path in out.glob("*.safetensors")),
        "steps": _steps(done),
    }


def _steps(done: "Sequence[Done]") -> list[dict[str, Any]]:
    return [
        {"step": one.name, **one.settings, **one.measured, "seconds": one.seconds} for one in done
    ]

"""The commands that need torch: finetune, classify and export. Imports it only when they run."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..agent.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from .dataset import Row
    from .methods import TrainingConfig

__all__ = ["classify", "export", "finetune"]


def say(text: str) -> None:
    click.echo(text, err=True)


GRAPH = ("onnx", "onnxruntime_genai")
"""What writes the fast graph; the latter comes with the extra `cpu` (or `gpu`)."""


def needs_train(*more: str) -> None:
    """Check that the extra's packages are there, and `more` that a command will need at its end.

    Libraries' notes about what we do not use are kept off the screen.
    """
    import logging
    from importlib.util import find_spec

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for package in ("torch", "transformers", "peft", *more):
        if find_spec(package) is None:
            extra = "cpu" if package == "onnxruntime_genai" else "train"
            raise MissingExtraError(package.replace("_", "-"), extra)


@click.command()
@click.argument("source", metavar="BOT.toml|ROWS.jsonl", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The adapter folder.")
@click.option("--base", default="smollm2-135m-instruct", help="Base model: catalogue id or folder.")
@click.option("--start-from", default="", help="Continue this adapter.")
@click.option("--method", type=click.Choice(["lora", "qlora", "dora", "adalora"]), default="lora")
@click.option("--rank", type=int, default=16, show_default=True)
@click.option("--learning-rate", type=float, default=8e-4, show_default=True)
@click.option("--epochs", type=float, default=1.0, show_default=True)
@click.option("--max-steps", type=int, default=0, help="Stop after this many steps.")
@click.option(
    "--first-layer", type=int, default=6, show_default=True, help="Leave the layers below it alone."
)
@click.option("--compiled", is_flag=True, help="torch.compile: slower start, faster steps.")
@click.option(
    "--validation",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Rows to judge by [a part of the rows, split by entry].",
)
@click.option("--patience", type=int, default=4, show_default=True)
@click.option("--threads", type=click.IntRange(0), default=0, help="[the cores there are].")
@click.option(
    "--distil",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of the loss that comes from the model as it began, every entry in view.",
)
@click.option("--bits", type=click.Choice(["0", "4"]), default="0", help="4: round for int4.")
@click.option("--block-size", type=int, default=32, show_default=True, help="Of --bits.")
@click.option("--seed", type=int, default=7, show_default=True)
def finetune(
    source: Path,
    *,
    out: Path,
    base: str,
    start_from: str,
    method: str,
    rank: int,
    learning_rate: float,
    epochs: float,
    max_steps: int,
    first_layer: int,
    compiled: bool,
    validation: Path | None,
    patience: int,
    threads: int,
    distil: float,
    bits: str,
    block_size: int,
    seed: int,
) -> None:
    """Train an adapter: on a bot's own FAQ, or on a file of training rows.

    An interrupted run goes on from its checkpoint when the same command is given again. With a
    sentence encoder as --base its layers are trained to find the entries of the rows.
    """
    needs_train()
    from ..agent.catalog import local_folder
    from ..agent.destination import check_apart
    from . import dataset
    from .methods import Method, TrainingConfig

    check_apart(out, source, validation, local_folder(base))
    if _is_encoder(base) and source.suffix != ".toml":
        _finetune_encoder(source, validation, base, out, max_steps, seed)
        return
    config = TrainingConfig(
        method=Method(method),
        rank=rank,
        alpha=2 * rank,
        epochs=epochs,
        learning_rate=learning_rate,
        max_steps=max_steps,
        first_layer=first_layer,
        compiled=compiled,
        patience=patience,
        threads=threads,
        distil=distil,
        bits=int(bits),
        block_size=block_size,
        seed=seed,
    )
    if source.suffix == ".toml":
        base, start_from, config, rows = _of_bot(source, config)
    else:
        rows = list(dataset.load(source))
    _train(rows, validation, base, out, config, start_from, seed)


def _train(
    rows: "list[Row]",
    validation: Path | None,
    base: str,
    out: Path,
    config: "TrainingConfig",
    start_from: str,
    seed: int,
) -> None:
    """Train an adapter on rows, write its card, and print what came of it."""
    from ..agent.generators import adapter_folder
    from . import dataset
    from .assemble import assemble_base
    from .finetune import finetune as run

    start = adapter_folder(start_from)
    training, held = dataset.split(rows, 0.05, seed)
    if validation is not None:
        training, held = rows, list(dataset.load(validation))
    result = run(assemble_base(base, say), training, held[:80], out, config, start_from=start)
    apart = 3 * sum(row.block for row in training) >= len(training)
    blocks = apart and config.distil > 0  # rows alone were not enough: docs/performance.md
    data = sorted({row.source for row in rows})
    write_card(out, base=base, data=data, start_from=start_from, blocks=blocks)
    click.echo(json.dumps(asdict(replace(result, curve=()))))


def _finetune_encoder(
    source: Path, validation: Path | None, base: str, out: Path, steps: int, seed: int
) -> None:
    from ..agent.catalog import fetch
    from . import dataset
    from .retriever import RetrieverConfig, train_retriever

    rows = list(dataset.load(source))
    training, held = dataset.split(rows, 0.06, seed)
    if validation is not None:
        training, held = rows, list(dataset.load(validation))
    config = RetrieverConfig(steps=steps or RetrieverConfig().steps, seed=seed)
    told = train_retriever(fetch(base, say), training, held[:480], out, config)
    write_card(out, base=base, data=sorted({row.source for row in rows}), start_from="")
    click.echo(json.dumps(told))


def _of_bot(source: Path, config: "TrainingConfig") -> "tuple[str, str, TrainingConfig, list[Row]]":
    """Base, adapter, settings and rows for the FAQ of a bot.toml."""
    from ..agent.config import load_config
    from ..agent.ingest import read_faq
    from .corpora import bot_rows, load_topics, split_topics
    from .material import BESIDE, LENGTH, OWN
    from .methods import Method

    told = load_config(source)
    settings = told.finetune
    try:
        method = Method(settings.method)
    except ValueError:
        raise ConfigError(
            f"{source}: finetune.method must be one of {', '.join(Method)}, not {settings.method!r}"
        ) from None
    entries = read_faq(*(source.parent / name for name in told.bot.faq))
    topics, _ = split_topics(load_topics())
    share, beside = (OWN, BESIDE) if config.distil else (0.75, 0)  # learned as healing does
    made = bot_rows(entries, topics, settings.rows, settings.seed, own=share, beside=beside)
    rows = list(made)
    own = replace(
        config,
        length=LENGTH if config.distil else config.length,
        method=method,
        rank=settings.rank,
        alpha=2 * settings.rank,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        batch=2,
        accumulate=3,
        evaluate_every=25,
        patience=12,  # the end of the schedule gains most, and `minutes` ends what does not
        minutes=settings.minutes,
    )
    return told.generation.base, told.generation.adapter, own, rows


def write_card(
    folder: Path, *, base: str, data: list[str], start_from: str, blocks: bool = False
) -> None:
    """Write card.json: what the adapter was trained on, and under which prompt contract.

    `blocks` tells that it reads entries well that were read one by one (block attention).
    """
    from ..agent.catalog import find, local_folder
    from ..agent.generators import adapter_folder, card
    from ..agent.prompt import contract_hash

    told: dict[str, object] = {
        "name": re.sub(r"[^\w.-]", "-", folder.name),
        "base": base,
        "base_sha256": "" if local_folder(base) else find(base).sha256,
        "data": data,
    }
    if not _is_encoder(base):
        before = adapter_folder(start_from)
        told["prompt_contract"] = contract_hash()
        told["blocks"] = blocks
        told["start_from"] = start_from
        known = card(before) if before else {}
        told["refusal_threshold"] = known.get("refusal_threshold", 0.5)
        told["refusal_slope"] = known.get("refusal_slope", 0.0)
    (folder / "card.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where it goes.")
@click.option("--adapter", default="", help="Merge this adapter first.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["fast", "portable", "huggingface", "gguf"]),
    default="fast",
    show_default=True,
    help="For our runtime and onnxruntime-genai; optimum; transformers and vLLM; llama.cpp.",
)
@click.option(
    "--precision",
    type=click.Choice(["int4", "int8", "fp16", "bf16", "fp32"]),
    default="int4",
    show_default=True,
    help="Of the fast format; more in `featherdesk quantize`.",
)
@click.option("--block-size", type=int, default=32, show_default=True, help="Of int4 and int8.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--kind",
    type=click.Choice(["Q8_0", "Q4_0"]),
    default="Q8_0",
    show_default=True,
    help="Of GGUF.",
)
def export(
    model: str,
    *,
    out: Path,
    adapter: str,
    form: str,
    precision: str,
    block_size: int,
    provider: str,
    kind: str,
) -> None:
    """Export a model (catalogue id or folder), with proof.

    A causal LM becomes a folder of the given format, a sentence encoder int8 ONNX.
    """
    needs_train(*(GRAPH if form == "fast" else ()))
    from ..agent.destination import check_destination
    from ..agent.generators import adapter_folder
    from .assemble import assemble_encoder, assemble_generator
    from .precision import Quantization

    check_destination(out, model, adapter)
    chosen = adapter_folder(adapter)
    if _is_encoder(model):
        if chosen is None:
            raise ConfigError(f"{model} is an ONNX encoder already; name an --adapter to merge")
        told = assemble_encoder(model, chosen, out, say)
    elif form == "fast":
        plan = Quantization(precision, block_size, provider=provider)
        told = assemble_generator(model, chosen, out, plan, say)
    else:
        told = _export_as(form, model, chosen, out, kind)
    click.echo(json.dumps(told))


def _export_as(
    form: str, model: str, adapter: Path | None, out: Path, kind: str
) -> dict[str, object]:
    """Export to a format that other programs read."""
    from ..agent.generators import check_adapter
    from .assemble import assemble_base

    if adapter is not None:
        check_adapter(model, adapter)
    base = assemble_base(model, say)
    if form == "portable":
        from .portable import export_portable

        return dict(export_portable(base, out, adapter=adapter, notify=say))
    if form == "huggingface":
        from .huggingface import export_huggingface

        return dict(export_huggingface(base, out, adapter=adapter, notify=say))
    from .gguf_file import export_gguf

    return dict(export_gguf(base, out, adapter=adapter, notify=say, kind=kind))


@click.command()
@click.argument("source", metavar="TRAIN.csv|BOT.toml", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Its folder.")
@click.option("--base", default="minilm-l6-v2-int8", help="Encoder: catalogue id.")
@click.option("--validation", type=click.Path(path_type=Path), help="CSV to judge by.")
@click.option("--test", type=click.Path(path_type=Path), help="CSV to report on.")
@click.option("--epochs", type=float, default=8.0, show_default=True)
@click.option("--learning-rate", type=float, default=2e-4, show_default=True)
@click.option("--rank", type=int, default=0, help="LoRA of this rank; 0 trains every layer.")
@click.option("--smoothing", type=float, default=0.1, show_default=True)
@click.option("--adversarial", type=float, default=0.0, help="Step against the word vectors.")
@click.option("--class-weights/--no-class-weights", default=True, show_default=True)
@click.option("--patience", type=int, default=4, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
def classify(
    source: Path,
    *,
    out: Path,
    base: str,
    validation: Path | None,
    test: Path | None,
    epochs: float,
    learning_rate: float,
    rank: int,
    smoothing: float,
    adversarial: float,
    class_weights: bool,
    patience: int,
    seed: int,
) -> None:
    """Train a text classifier: any labels of a CSV, or the entries of a bot.

    A CSV has the columns text, label and perhaps split (train, validation, test). The folder holds
    an int8 ONNX model; for a bot, name it as retrieval.classifier in bot.toml and build again.
    """
    needs_train()
    from ..agent.catalog import local_folder
    from ..agent.destination import check_destination
    from ..agent.generators import ensure_encoder
    from .classified import write_classifier
    from .classify import ClassifyConfig, train_classifier
    from .labelled import of_bot, of_csv

    check_destination(out, source, validation, test, local_folder(base))
    config = ClassifyConfig(
        learning_rate=learning_rate,
        epochs=epochs,
        rank=rank,
        smoothing=smoothing,
        adversarial=adversarial,
        class_weights=class_weights,
        patience=patience,
        seed=seed,
    )
    if source.suffix == ".toml":
        parts = of_bot(source, seed)
    else:
        parts = of_csv(source, validation, test, seed)
    encoder = ensure_encoder(base, say)
    trained = train_classifier(encoder, parts.train, parts.validation, config)
    report = write_classifier(trained, config, parts, encoder, out)
    click.echo(json.dumps(report))


def _is_encoder(model: str) -> bool:
    from ..agent.catalog import find, local_folder

    return local_folder(model) is None and find(model).kind == "encoder"

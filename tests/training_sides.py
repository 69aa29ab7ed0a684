"""The sides that `measure_training.py` compares, each in a process of its own.

Knows nothing of how they are compared.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from featherdesk.compress.dataset import Encoded, Row, encode
from featherdesk.compress.finetune import epoch_batches, finetune, learning_rate_share
from featherdesk.compress.methods import TrainingConfig


@dataclass(frozen=True, slots=True)
class Job:
    """What a side is given; rows have one question each where it is `alone` or a Trainer.

    A Trainer's step is `accumulate` batches of `batch` rows.
    """

    side: str
    base: Path
    rows: tuple[Row, ...]
    held: tuple[Row, ...]
    config: TrainingConfig
    batch: int
    accumulate: int
    out: Path


@dataclass(frozen=True, slots=True)
class Point:
    """An evaluation: training `seconds` so far, loss in nats an answer token, peak memory in MB."""

    step: int
    seconds: float
    loss: float
    memory_mb: float


class Stopped(Exception):
    """The time is up."""


def one_question_each(rows: Sequence[Row]) -> list[Row]:
    """The rows with every question in a row of its own, its context repeated."""
    return [replace(row, questions=(question,)) for row in rows for question in row.questions]


def in_our_order(rows: Sequence[Row], tokens: Callable[[str], list[int]], job: Job) -> list[Row]:
    """The rows as `finetune` meets them in its first epoch."""
    found: dict[bytes, list[Row]] = {}
    encoded = [encode(row, tokens) for row in rows]
    for row, one in zip(rows, encoded, strict=True):
        found.setdefault(one.ids.tobytes(), []).append(row)
    return [
        found[sequence.ids[sequence.rows == number].tobytes()].pop(0)
        for batch in epoch_batches(encoded, job.config, 0)
        for sequence in batch
        for number in range(int(sequence.rows.max()) + 1)
    ]


def train(job: Job, pipe: Connection) -> None:
    """A side in its process: evaluates, says so, and waits for its turn."""
    import resource

    def turn(step: int, seconds: float, loss: float) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send(Point(step, seconds, loss, memory))
        if not pipe.recv():
            raise Stopped

    try:
        if job.side.startswith("trainer"):
            with_trainer(job, turn)
        else:
            finetune(job.base, job.rows, job.held, job.out, job.config, progress=False, told=turn)
    except Stopped:
        pass
    pipe.send(None)


def with_trainer(job: Job, turn: Callable[[int, float, float], None]) -> None:
    """The plain loop."""
    import torch
    from featherdesk.compress.methods import adapter_settings
    from peft import get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        PrinterCallback,
        Trainer,
        TrainerCallback,
    )

    config = job.config
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    tokens = encoder(job.base)
    examples = [encode(row, tokens) for row in in_our_order(job.rows, tokens, job)]
    held = [encode(row, tokens) for row in one_question_each(job.held)]
    steps = math.ceil(len(examples) / (job.batch * job.accumulate))
    model = AutoModelForCausalLM.from_pretrained(job.base)
    settings = adapter_settings(config, model.config.num_hidden_layers, steps)
    model = get_peft_model(model, settings)

    class Turns(TrainerCallback):  # type: ignore[misc]
        """Counts the seconds between two evaluations."""

        began = seconds = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.pause(0)

        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step % config.evaluate_every == 0 or state.global_step == steps:
                self.seconds += time.monotonic() - self.began
                self.pause(state.global_step)

        def pause(self, step: int) -> None:
            turn(step, self.seconds, validation_loss(model, held))
            model.train()
            self.began = time.monotonic()

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(examples)

    trainer = InOrder(
        model=model,
        args=arguments(job),
        train_dataset=examples,
        data_collator=padded,
        optimizers=optimized(model, config, steps),
        callbacks=[Turns()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def optimized(model: Any, config: TrainingConfig, steps: int) -> tuple[Any, Any]:
    """Optimizer and schedule as `finetune` has them."""
    import torch

    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
    )
    warmup = max(1, round(steps * config.warmup_share))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_share(step, warmup, steps)
    )
    return optimizer, schedule


def arguments(job: Job) -> Any:
    """The Trainer's settings: nothing beside the training itself."""
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        str(job.out),
        per_device_train_batch_size=job.batch,
        gradient_accumulation_steps=job.accumulate,
        num_train_epochs=1,
        bf16=job.side == "trainer-bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=job.config.seed,
    )


def encoder(base: Path) -> Callable[[str], list[int]]:
    """A model's tokens of a text."""
    from featherdesk.compress.model import load_tokenizer

    tokenizer = load_tokenizer(base)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def padded(examples: Sequence[Encoded]) -> dict[str, Any]:
    """A batch as the Trainer's collators make it: padded to its longest."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def tensor(values: Sequence[Any], filler: int) -> Any:
        return pad_sequence([torch.as_tensor(v) for v in values], True, filler)

    return {
        "input_ids": tensor([one.ids for one in examples], 0),
        "attention_mask": tensor([one.ids * 0 + 1 for one in examples], 0),
        "labels": tensor([one.labels for one in examples], -100),
    }


def validation_loss(model: Any, held: Sequence[Encoded]) -> float:
    """Nats an answer token, as `finetune` takes it, in the model's own precision."""
    import torch
    from featherdesk.compress.forward import batch_of, log_probabilities

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(held), 4):
            batch = batch_of(held[start : start + 4]).to(model.device)
            told = log_probabilities(model.get_base_model(), batch)
            wanted = batch.labels.flatten()[batch.targets]
            total -= float(told.gather(1, wanted[:, None]).sum())
            count += len(wanted)
    return total / count

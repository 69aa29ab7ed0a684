"""LoRA, DoRA, QLoRA and AdaLoRA fine-tuning of a causal LM on training rows.

The loss is taken on answers only and logits are computed only there; rows are packed into
sequences under a mask that keeps them apart; nothing flows back below the first adapted layer.
What the layers below it leave is computed anew in every epoch: kept for each row (1,152 bytes a
token of SmolLM2-135M), it would save 6 of 30 layers' forward pass, a tenth of the arithmetic,
from the second epoch on; what ships is trained for one. Knows nothing of where rows come from.
"""

import hashlib
import json
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..agent.cores import available_cores
from ..agent.errors import ConfigError, FeatherdeskError
from ..agent.prompt import REFUSAL
from .checkpoint import load_checkpoint, save_checkpoint
from .dataset import Encoded, Row, encode, pack
from .forward import batch_of, evened, hidden, in_view, logits_at
from .methods import Method, TrainingConfig, with_adapter
from .model import load_tokenizer
from .rounding import rounded_adapted
from .steps import identity_of
from .teaching import doubt_gap, states_gap, words_gap
from .training_log import Logs

__all__ = ["Result", "epoch_batches", "finetune", "learning_rate_share"]

FIRST, DOUBT = 4.0, 0.5
EVEN = 64
STRIDE = 32
"""Multiples that answer tokens and sequences are filled up to: memory grows with new shapes."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run ended with; losses are nats a token of the answers."""

    steps: int
    best_step: int
    validation_loss: float
    first_validation_loss: float
    tokens: int
    answer_tokens: int
    rows: int
    seconds: float
    peak_memory_mb: float
    curve: tuple[tuple[int, float], ...]


def finetune(
    base: Path,
    rows: Sequence[Row],
    validation: Sequence[Row],
    out: Path,
    config: TrainingConfig,
    *,
    start_from: Path | None = None,
    progress: bool = True,
    told: Callable[[int, float, float], None] | None = None,
) -> Result:
    """Train an adapter on `rows` and write it to `out` in PEFT's format.

    `start_from` continues an existing adapter. An interrupted run that left `out/checkpoint`
    goes on from there; the learned weights of the best validation loss are what stays. `told` is
    called at every evaluation with the step, the seconds of training so far and the loss.

    Raises:
        FeatherdeskError: there are no rows, all are too long, or the loss is not finite.
    """
    if not rows or not validation:
        raise FeatherdeskError("nothing to train on: the training or the validation part is empty")
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads or min(torch.get_num_threads(), available_cores()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(base)

    def tokens(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    encoded, known = (
        [one for one in (encode(row, tokens) for row in part) if len(one) <= config.length]
        for part in (rows, validation)
    )
    if not encoded or not known:
        part = "validation" if encoded else "training"
        raise FeatherdeskError(
            f"nothing to train on: no row of the {part} part has at most {config.length} tokens; "
            "shorten its entries"
        )
    held = _batched(known, config, random.Random(0))
    refusal = tokens(REFUSAL)[0]
    run = _Run(base, out, config, device, start_from, encoded, refusal, told)
    return run.train(held, progress=progress)


class _Run:
    """The state of one training run: model, optimizer, schedule, place in the data."""

    def __init__(
        self,
        base: Path,
        out: Path,
        config: TrainingConfig,
        device: torch.device,
        start_from: Path | None,
        encoded: Sequence[Encoded],
        refusal: int,
        told: Callable[[int, float, float], None] | None = None,
    ) -> None:
        self.config, self.out, self.device, self.encoded = config, out, device, encoded
        self.refusal = refusal
        self.told = told
        names = (identity_of(base), identity_of(start_from) if start_from else "")
        self.made_from = hashlib.sha256(" ".join(names).encode())
        for one in encoded:
            self.made_from.update(one.ids.tobytes() + one.labels.tobytes())
        self.checkpoint = out / "checkpoint" / "checkpoint.safetensors"
        per_epoch = math.ceil(len(self._epoch(0)) / config.accumulate)
        self.total = config.max_steps or max(1, math.ceil(per_epoch * config.epochs))
        self.model = with_adapter(base, config, device, start_from, self.total)
        self.causal = self.model.get_base_model()
        self.parent = _as_it_began(base, config, device, start_from) if config.distil else None
        if config.compiled:
            self.causal.get_decoder().compile(dynamic=False)
        weights = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            weights,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.warmup = max(1, round(self.total * config.warmup_share))
        self.step = self.tokens = self.answer_tokens = 0
        self.seconds = 0.0
        self.best = (math.inf, 0)
        self.curve: list[tuple[int, float]] = []

    def _epoch(self, epoch: int) -> list[list[Encoded]]:
        return epoch_batches(self.encoded, self.config, epoch)

    def _batches(self) -> Iterator[list[Encoded]]:
        """Batches for ever, from where the run stands."""
        taken = self.step * self.config.accumulate
        epoch = 0
        while True:
            batches = self._epoch(epoch)
            if taken >= len(batches):
                taken -= len(batches)
            else:
                yield from batches[taken:]
                taken = 0
            epoch += 1

    def train(self, held: Sequence[list[Encoded]], *, progress: bool) -> Result:
        self._resume()
        logs = Logs(self.out, self.config)
        if not self.curve:
            self._note(0, self.evaluate(held), logs)
        batches = self._batches()
        bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            disable=not progress,
            transient=False,
        )
        stale = 0
        with bar:
            task = bar.add_task("train", total=self.total, completed=self.step, state="")
            while self.step < self.total and stale < self.config.patience and not self._late():
                began = time.monotonic()
                loss = self._optimize(batches)
                self.seconds += time.monotonic() - began
                rate = self.tokens / max(self.seconds, 1e-9)
                bar.update(
                    task,
                    advance=1,
                    state=f"{self.step}/{self.total} loss {loss:.3f} {rate:.0f} tokens/s",
                )
                logs.write({"train/loss": loss, "train/tokens_per_s": rate}, self.step)
                due = self.step % self.config.evaluate_every == 0
                if due or self.step == self.total or self._late():
                    stale = 0 if self._note(self.step, self.evaluate(held), logs) else stale + 1
                    self._save_checkpoint()
        logs.close()
        return self._finish()

    def _late(self) -> bool:
        return 0 < self.config.minutes * 60 <= self.seconds

    def _optimize(self, batches: Iterator[list[Encoded]]) -> float:
        """One optimizer step; returns the mean loss of its answer tokens."""
        group = [next(batches) for _ in range(self.config.accumulate)]
        answers = sum(_answers(batch) for batch in group)
        total = 0.0
        self.model.train()
        with self._rounded():
            for batch in group:
                loss = self._loss(batch, weighted=True) / max(answers, 1)
                loss.backward()
                total += float(loss.detach())
                self.tokens += sum(len(sequence) for sequence in batch)
        if not math.isfinite(total):
            raise FeatherdeskError(
                f"the loss is not finite at step {self.step}; lower finetune.learning_rate"
            )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        share = learning_rate_share(self.step, self.warmup, self.total)
        for weights in self.optimizer.param_groups:
            weights["lr"] = self.config.learning_rate * share
        self.optimizer.step()
        if self.config.method is Method.ADALORA:
            self.model.base_model.update_and_allocate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.answer_tokens += answers
        self.step += 1
        return total

    def _loss(self, sequences: Sequence[Encoded], *, weighted: bool = False) -> torch.Tensor:
        """The summed loss of one batch's answer tokens: cross entropy and, in its share, how far
        the model is from its parent, which has every entry in view. `weighted`, to learn by,
        counts the first token of an answer, where the model decides whether to refuse, `FIRST`
        times, and adds how far the last states lie apart."""
        size = STRIDE * math.ceil(max(map(len, sequences)) / STRIDE)
        if self.config.compiled:  # for one shape
            size = self.config.length
            sequences = [*sequences, *[_BLANK] * (self.config.batch - len(sequences))]
        batch = batch_of(sequences, size).to(self.device)
        places, counted = evened(batch, EVEN)
        labels = batch.labels.flatten()
        states = hidden(self.causal, batch)
        logits = logits_at(self.causal, states, places)
        each = torch.nn.functional.cross_entropy(logits, labels[places], reduction="none")
        firsts = labels[places - 1] == -100
        gap = torch.zeros(())
        if self.parent is not None:
            whole = batch_of(in_view(sequences), size).to(self.device)
            with torch.no_grad():
                seen = hidden(self.parent, whole)
                wanted = torch.log_softmax(logits_at(self.parent, seen, places), -1)
            told = torch.log_softmax(logits, -1)
            apart = words_gap(told, wanted)
            doubt = DOUBT * doubt_gap(told, wanted, self.refusal)
            each = torch.lerp(each, torch.where(firsts, apart + doubt, apart), self.config.distil)
            gap = self.config.distil * states_gap(states, seen, batch, whole)
        if not weighted:
            return (each * counted).sum()
        each = torch.where(firsts, FIRST * each, each)
        return (each * counted).sum() + gap * counted.sum()

    def _rounded(self) -> AbstractContextManager[None]:
        return rounded_adapted(self.model, self.config.bits, self.config.block_size)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def evaluate(self, held: Sequence[list[Encoded]]) -> float:
        """Mean validation loss a token of the answers, in nats.

        An NF4 model stays in training mode: on CPU bitsandbytes repacks its weights at the first
        forward pass in evaluation mode, and training on them is wrong from then on.
        """
        self.model.train(self.config.method is Method.QLORA)
        with self._rounded():
            total = sum(float(self._loss(batch)) for batch in held)
        return total / sum(_answers(batch) for batch in held)

    def _note(self, step: int, loss: float, logs: Logs) -> bool:
        """Keep a validation loss; save the adapter when it is the best. Returns whether it is."""
        self.curve.append((step, loss))
        if self.told is not None:
            self.told(step, self.seconds, loss)
        logs.write({"validation/loss": loss}, step)
        better = loss < self.best[0]
        if better:
            self.best = (loss, step)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Adapter .* invalid shape")  # AdaLoRA's rank 0
                self.model.save_pretrained(self.out, save_embedding_layers=False)
        return better

    def _save_checkpoint(self) -> None:
        state = {
            "step": self.step,
            "tokens": self.tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": self.seconds,
            "best": self.best,
            "curve": self.curve,
            "config": asdict(self.config),
            "made_from": self.made_from.hexdigest(),
        }
        tensors = {}
        for name, weight in self._learned().items():
            tensors[f"weight/{name}"] = weight.detach().cpu().contiguous()
            for key, value in self.optimizer.state[weight].items():
                tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
        save_checkpoint(self.checkpoint, tensors, state)

    def _learned(self) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def _resume(self) -> None:
        kept = load_checkpoint(self.checkpoint)
        if kept is None:
            return
        tensors, state = kept
        if state["config"] != asdict(self.config):
            raise ConfigError(
                f"{self.checkpoint} was made with other settings; remove it to start anew"
            )
        if state.get("made_from") != self.made_from.hexdigest():
            return  # of other rows, or another model
        with torch.no_grad():
            for name, weight in self._learned().items():
                weight.copy_(tensors[f"weight/{name}"])
                self.optimizer.state[weight] = {
                    "step": tensors[f"step/{name}"].to(weight.device),
                    "exp_avg": tensors[f"exp_avg/{name}"].to(weight),
                    "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(weight),
                }
        self.step, self.tokens = state["step"], state["tokens"]
        self.answer_tokens, self.seconds = state["answer_tokens"], state["seconds"]
        self.best = (state["best"][0], state["best"][1])
        self.curve = [(step, loss) for step, loss in state["curve"]]

    def _finish(self) -> Result:
        result = Result(
            steps=self.step,
            best_step=self.best[1],
            validation_loss=self.best[0],
            first_validation_loss=self.curve[0][1],
            tokens=self.tokens,
            answer_tokens=self.answer_tokens,
            rows=len(self.encoded),
            seconds=round(self.seconds, 1),
            peak_memory_mb=_peak_memory_mb(),
            curve=tuple(self.curve),
        )
        (self.out / "training.json").write_text(
            json.dumps({"config": asdict(self.config), "result": asdict(result)}, indent=1)
        )
        return result


def _as_it_began(
    base: Path, config: TrainingConfig, device: torch.device, start_from: Path | None
) -> Any:
    """The model before training, merged and frozen."""
    parent = with_adapter(base, replace(config, compiled=True, bits=0), device, start_from, 1)
    return parent.merge_and_unload().requires_grad_(False).eval()


_EMPTY = np.zeros(0, np.int64)
_BLANK = Encoded(_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY, np.zeros(0, bool))


def epoch_batches(
    rows: Sequence[Encoded], config: TrainingConfig, epoch: int
) -> list[list[Encoded]]:
    """The batches of an epoch, packed anew from its own seed."""
    return _batched(rows, config, random.Random(config.seed + epoch))


def _batched(
    rows: Sequence[Encoded], config: TrainingConfig, rng: random.Random
) -> list[list[Encoded]]:
    """Packed sequences of like length together, so that little is padded, in a shuffled order."""
    packed = sorted(pack(rows, config.length, rng), key=len)
    starts = range(0, len(packed), config.batch)
    batches = [packed[start : start + config.batch] for start in starts]
    rng.shuffle(batches)
    return batches


def _answers(batch: Sequence[Encoded]) -> int:
    return sum(int((sequence.labels != -100).sum()) for sequence in batch)


def learning_rate_share(step: int, warmup: int, total: int) -> float:
    """The share of the learning rate at a step: linear warm-up, cosine to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

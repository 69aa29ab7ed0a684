"""Heals a pruned model: it learns to say and to see what its parent does.

Divergence from the parent's words on the answers, distance of the last hidden states on every
token (`teaching`), and a share of the written answers. With `bits` the weights are
rounded as the export will round them (quantization-aware, straight-through: arXiv 1308.3432).
The parent has every entry in view where the model reads each by itself (block attention, arXiv
2409.15355). Knows nothing of how the model was pruned.
"""

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..agent.errors import ConfigError, FeatherdeskError
from ..agent.prompt import REFUSAL
from .architecture import open_model, save_model
from .checkpoint import load_checkpoint, save_checkpoint
from .compiler import can_compile
from .dataset import Encoded
from .forward import (
    Batch,
    batch_of,
    divergences,
    evened,
    hidden,
    in_view,
    log_probabilities,
    logits_at,
    mixed,
)
from .lessons import lessons_of
from .material import LENGTH, batches
from .methods import LINEAR, has_bf16
from .model import load_tokenizer
from .precision import BLOCKS
from .rounding import rounded_weights
from .settings import at_least, one_of
from .sharing import tie, untie
from .sparsity import keep_zeros, zeros_of
from .steps import Task, identity_of
from .teaching import doubt_gap, states_gap, words_gap
from .vocabulary import parent_with

__all__ = ["Heal", "heal"]

_EVEN = 256
_HELD = 6
"""Batches to judge by."""
_SAVE_EVERY = 50
"""Steps from one checkpoint to the next."""


@dataclass(frozen=True, slots=True)
class Heal:
    """The step `heal`: train the pruned model for `tokens` tokens, or `minutes` if that is less.

    `method` is `full` or `lora` (of `rank`). `answers`, `states` and `written` weigh the three
    losses; the first token of an answer, where a model decides whether to refuse, counts `first`
    times, and `doubt` weighs how far its log-odds of a refusal are from the parent's: thresholds
    lie where divergence hardly sees them. `general` is the share of general text. `bits` 4 rounds
    weights in blocks of `block_size` while it learns, so that the int4 export loses little; 0 does
    not.
    """

    kind: ClassVar[str] = "heal"
    method: str = "full"
    rank: int = 32
    tokens: int = 1_500_000
    minutes: float = 0.0
    learning_rate: float = 3e-4
    batch: int = 6
    accumulate: int = 1
    answers: float = 1.0
    first: float = 4.0
    doubt: float = 0.1
    states: float = 1.0
    written: float = 0.1
    general: float = 0.1
    bits: int = 0
    block_size: int = 32
    compiled: bool = True

    def __post_init__(self) -> None:
        one_of(("full", "lora"), method=self.method)
        one_of((0, 4), bits=self.bits)
        one_of(BLOCKS, block_size=self.block_size)
        at_least(1, rank=self.rank, tokens=self.tokens)
        at_least(1, batch=self.batch, accumulate=self.accumulate)
        if self.bits and self.method == "lora":
            raise ConfigError('bits rounds the weights that learn: take method "full", or bits 0')
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate must be in (0, 1), not {self.learning_rate}")
        if not 0 <= self.general < 1:
            raise ConfigError(f"general is a share, 0 to 1, not {self.general}")

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write the healed model; measures divergence and perplexity before and after."""
        return heal(source, out, self, task)


def heal(source: Path, out: Path, config: Heal, task: Task) -> dict[str, Any]:
    """Distil the parent into the model in `source`; goes on from a checkpoint in the scratch.

    Raises:
        FeatherdeskError: there is nothing to learn from, or the loss is not finite.
    """
    if not task.material.rows and not task.material.texts:
        raise FeatherdeskError("heal: no calibration data; name a FAQ, rows or texts to learn from")
    torch.manual_seed(task.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = _Run(source, config, task, device)
    before = run.measure()
    run.train()
    after = run.measure()
    student = run.result()
    save_model(student, source, out)
    run.forget()
    return {
        "steps": run.step,
        "tokens": run.seen,
        "tokens_per_s": round(run.seen / max(run.seconds, 1e-9)),
        "before": before,
        "after": after,
        "curve": run.curve,
    }


_Lesson = tuple[Batch, Batch]
"""What the model reads, and the same with every entry in view: what its parent reads."""


class _Run:
    """The state of one healing: student, parent, optimizer, place in the data."""

    def __init__(self, source: Path, config: Heal, task: Task, device: torch.device) -> None:
        self.config, self.task, self.device = config, task, device
        self.checkpoint = task.scratch / "heal" / "checkpoint.safetensors"
        names = (identity_of(source), identity_of(task.parent), task.material.digest())
        self.made_from = " ".join([*names, str(task.seed)])
        tokenizer = load_tokenizer(source)
        self.refusal = tokenizer.encode(REFUSAL, add_special_tokens=False).ids[0]
        lessons = lessons_of(task.material, tokenizer, task.seed, 8 * _HELD)
        self.rows, self.texts = lessons.rows, lessons.texts
        self.held, self.known = self._probes(lessons.held), self._probes(lessons.known)
        self.parent = parent_with(task.parent, source).to(self._dtype()).to(device)
        self.parent.requires_grad_(False)
        self.student = open_model(source).to(device)
        self.zeros = zeros_of(self.student)
        self.shared = tie(self.student)
        if config.method == "lora":
            if self.zeros or self.shared:
                raise ConfigError(
                    'heal: method "lora" would fill the zeros of a sparse model and part layers '
                    'that share weights; use "full"'
                )
            self.student = self._with_lora(self.student)
        self.weights = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        if config.compiled and can_compile(task.notify):
            self._inner().get_decoder().compile(dynamic=False)
            self.parent.get_decoder().compile(dynamic=False)
        self.total = max(1, round(config.tokens / (config.batch * config.accumulate * LENGTH)))
        self.step = self.seen = 0
        self.seconds = 0.0
        self.curve: list[tuple[int, float]] = []

    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if has_bf16(self.device) else torch.float32

    def _probes(self, sequences: Sequence[Encoded]) -> list[_Lesson]:
        groups = list(batches(sequences, self.config.batch, 0))[:_HELD]
        return [self._lesson(group) for group in groups]

    def _lesson(self, group: Sequence[Encoded]) -> _Lesson:
        """Always the same shape: a compiled model is made for one."""
        missing = self.config.batch - len(group)
        told = [*group, *list(group[:1]) * missing]
        batch, seen = (batch_of(one, LENGTH).to(self.device) for one in (told, in_view(told)))
        return batch, seen

    def _with_lora(self, student: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        rank = self.config.rank
        settings = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=list(LINEAR), task_type="CAUSAL_LM"
        )
        return get_peft_model(student, settings)

    def _inner(self) -> Any:
        """The causal LM, without PEFT's wrapping."""
        return self.student.get_base_model() if self.config.method == "lora" else self.student

    def measure(self) -> dict[str, float]:
        """Divergence from the parent on held answers, in nats a token, and on their first tokens;
        perplexity of general text, the parent's beside it: what was forgotten."""
        student = self._inner()
        with torch.no_grad(), self._mixed(), self._rounded():
            apart = [divergences(student, one, self.parent, whole) for one, whole in self.held]
            nats = [_surprise(student, batch) for batch, _ in self.known]
            known = [_surprise(self.parent, batch) for batch, _ in self.known]
        firsts = torch.cat([d[b.firsts] for d, (b, _) in zip(apart, self.held, strict=True)])
        return {
            "divergence": round(float(torch.cat(apart).mean()), 5),
            "divergence_first": round(float(firsts.mean()), 5),
            "perplexity": round(math.exp(sum(nats) / max(1, len(nats))), 3),
            "perplexity_parent": round(math.exp(sum(known) / max(1, len(known))), 3),
        }

    def _mixed(self) -> Any:
        return mixed(self.device)

    def _rounded(self) -> Any:
        return rounded_weights(self._inner(), self.config.bits, self.config.block_size)

    def _lessons(self) -> Iterator[_Lesson]:
        """Batches for ever; general text in its share."""
        rng = random.Random(self.task.seed)
        number = 0
        count = round(len(self.rows) * self.config.general / max(1e-9, 1 - self.config.general))
        while True:
            texts = rng.sample(self.texts, k=min(count, len(self.texts)))
            groups = list(batches([*self.rows, *texts], self.config.batch, self.task.seed + number))
            full = [group for group in groups if len(group) == self.config.batch]
            for group in full or groups:
                yield self._lesson(group)
            number += 1

    def train(self) -> None:
        self._resume()
        source = self._lessons()
        for _ in range(self.step * self.config.accumulate):
            next(source)
        bar = Progress(
            TextColumn("healing"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.task.progress,
        )
        with bar:
            shown = bar.add_task("heal", total=self.total, completed=self.step, state="")
            while self.step < self.total and not self._late():
                began = time.monotonic()
                loss = self._optimize(source)
                self.seconds += time.monotonic() - began
                rate = self.seen / self.seconds
                state = f"{self.step}/{self.total} loss {loss:.3f} {rate:.0f} tokens/s"
                bar.update(shown, advance=1, state=state)
                if self.step % 10 == 0:
                    self.curve.append((self.step, round(loss, 4)))
                if self.step % _SAVE_EVERY == 0 and self.step < self.total:
                    self._save()
                    self.task.notify(f"heal: {state}")

    def _late(self) -> bool:
        return 0 < self.config.minutes * 60 <= self.seconds

    def _optimize(self, source: Iterator[_Lesson]) -> float:
        """One optimizer step; returns its loss."""
        total = 0.0
        with self._rounded():
            for _ in range(self.config.accumulate):
                batch, whole = next(source)
                with self._mixed():
                    loss = self._loss(batch, whole) / self.config.accumulate
                loss.backward()
                total += float(loss.detach())
                self.seen += int(batch.real.sum())
        if not math.isfinite(total):
            raise FeatherdeskError(
                f"heal: the loss is not finite at step {self.step}; lower learning_rate"
            )
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * _share(self.step, self.total)
        self.optimizer.step()
        keep_zeros(self.zeros)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def _loss(self, batch: Batch, whole: Batch) -> torch.Tensor:
        config, student = self.config, self._inner()
        places, counted = evened(batch, _EVEN)
        with torch.no_grad():
            seen = hidden(self.parent, whole)
            wanted = torch.log_softmax(logits_at(self.parent, seen, places), -1)
        states = hidden(student, batch)
        told = torch.log_softmax(logits_at(student, states, places), -1)
        labels = batch.labels.flatten()
        firsts = labels[places - 1] == -100
        weights = torch.where(firsts, config.first, 1.0) * counted
        loss = config.answers * (words_gap(told, wanted) * weights).sum() / weights.sum()
        if config.doubt and bool(firsts.any()):
            far = doubt_gap(told[firsts], wanted[firsts], self.refusal)
            loss = loss + config.doubt * (far * counted[firsts]).sum() / counted[firsts].sum()
        if config.states and states.shape == seen.shape:
            loss = loss + config.states * states_gap(states, seen, batch, whole)
        if config.written:
            said = torch.nn.functional.nll_loss(told, labels[places], reduction="none")
            loss = loss + config.written * (said * counted).sum() / counted.sum()
        return loss

    def _save(self) -> None:
        state = {
            "config": asdict(self.config),
            "made_from": self.made_from,
            "step": self.step,
            "seen": self.seen,
            "seconds": self.seconds,
            "curve": self.curve,
        }
        tensors = {}
        for number, weight in enumerate(self.weights):
            tensors[f"weight/{number}"] = weight.detach().cpu().contiguous()
            for key, value in self.optimizer.state[weight].items():
                tensors[f"{key}/{number}"] = value.detach().cpu().contiguous()
        save_checkpoint(self.checkpoint, tensors, state)

    def _resume(self) -> None:
        kept = load_checkpoint(self.checkpoint)
        if kept is None:
            return
        tensors, state = kept
        if (state["config"], state.get("made_from")) != (asdict(self.config), self.made_from):
            return
        with torch.no_grad():
            for number, weight in enumerate(self.weights):
                weight.copy_(tensors[f"weight/{number}"])
                self.optimizer.state[weight] = {
                    key: tensors[f"{key}/{number}"].to(weight.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self.step, self.seen, self.seconds = state["step"], state["seen"], state["seconds"]
        self.curve = [(step, loss) for step, loss in state["curve"]]
        self.task.notify(f"heal: going on from step {self.step}")

    def result(self) -> Any:
        """The healed model; an adapter is merged into it."""
        if self.config.method == "lora":
            return self.student.merge_and_unload()
        untie(self.shared)
        return self.student

    def forget(self) -> None:
        """Remove the checkpoint: the result is whole."""
        import shutil

        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)


def _surprise(model: Any, batch: Batch) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    told = log_probabilities(model, batch)
    return float(torch.nn.functional.nll_loss(told, batch.labels.flatten()[batch.targets]))


def _share(step: int, total: int) -> float:
    """The share of the learning rate: linear warm-up over a twentieth, cosine to a fiftieth."""
    warmup = max(1, total // 20)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

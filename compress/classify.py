"""Fine-tunes a small encoder into a text classifier and exports it with optimum as int8 ONNX.

Full fine-tuning or LoRA of a BERT-like encoder under its mean token state, with class weights,
label smoothing, early stopping and, as an option, adversarial training (FGM: Miyato et al., arXiv
1605.07725). Knows nothing of bots: texts and labels in, a folder and its figures out.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from ..agent.errors import ConfigError, FeatherdeskError
from .bert import load_onnx_bert, mean_states, padded

__all__ = ["ClassifyConfig", "Example", "Trained", "train_classifier"]

Example = tuple[str, str]
"""A text and its label."""

MAX_TOKENS = 64
_BUCKETS = 24


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    """What shapes a run. `rank` 0 trains every layer, else LoRA of that rank; `adversarial` is the
    length of the step against the word vectors (0: off); `patience` counts evaluations without a
    better accuracy; `smoothing` is the share of a label given to all others."""

    learning_rate: float = 2e-4
    epochs: float = 8.0
    batch: int = 48
    rank: int = 0
    smoothing: float = 0.1
    class_weights: bool = True
    adversarial: float = 0.0
    patience: int = 4
    warmup_share: float = 0.1
    dropout: float = 0.1
    seed: int = 7

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate must be in (0, 1), not {self.learning_rate}")
        if self.epochs <= 0:
            raise ConfigError(f"epochs must be above 0, not {self.epochs}")
        if self.batch < 2 or self.patience < 1 or self.rank < 0:
            raise ConfigError("batch must be at least 2, patience at least 1, rank not negative")
        if not 0 <= self.smoothing < 1 or self.adversarial < 0:
            raise ConfigError("smoothing must be in [0, 1), adversarial not negative")


class Classifier(torch.nn.Module):  # type: ignore[misc]
    """A BERT under a linear layer over its mean token state; logits, shape (rows, labels)."""

    def __init__(self, bert: Any, labels: int, dropout: float) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(bert.config.hidden_size, labels)
        self.config = bert.config

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Logits of a padded batch of token ids, shape (rows, length)."""
        words = self.bert.embeddings.word_embeddings(input_ids)
        return {"logits": self.of_words(words, attention_mask, token_type_ids)}

    def of_words(
        self,
        words: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of word vectors, shape (rows, length, hidden)."""
        states = self.bert(
            inputs_embeds=words, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        weights = attention_mask[:, :, None].to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1)
        return torch.as_tensor(self.head(self.dropout(pooled)))


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained classifier with its labels and the curve of validation accuracy over epochs."""

    model: Classifier
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    curve: tuple[tuple[float, float], ...]
    seconds: float


def train_classifier(
    base: Path,
    rows: Sequence[Example],
    validation: Sequence[Example],
    config: ClassifyConfig,
    *,
    progress: bool = True,
) -> Trained:
    """Fine-tune the encoder in `base` on labelled texts; the weights of the best epoch stay.

    Raises:
        FeatherdeskError: fewer than two labels, or no row to train on or to judge by.
    """
    labels = tuple(sorted({label for _, label in rows}))
    if len(labels) < 2:
        raise FeatherdeskError("a classifier needs rows of at least two labels")
    known = [row for row in validation if row[1] in set(labels)]
    if not known:
        raise FeatherdeskError("the validation part holds no row of a label that is trained")
    run = _Run(base, rows, labels, config)
    return run.train(known, progress=progress)


class _Run:
    """The state of one training run."""

    def __init__(
        self, base: Path, rows: Sequence[Example], labels: tuple[str, ...], config: ClassifyConfig
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.labels = config, labels
        self.place = {label: place for place, label in enumerate(labels)}
        self.tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        self.rows = [(self._ids(text), self.place[label]) for text, label in rows]
        bert = load_onnx_bert(base / "model.onnx")
        bert.embeddings.word_embeddings.requires_grad_(False)
        for module in bert.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = config.dropout
        self.model = Classifier(_with_lora(bert, config.rank), len(labels), config.dropout)
        self._start_from_means()
        self.weights = _class_weights([label for _, label in self.rows], len(labels), config)
        self.total = max(1, math.ceil(self._epoch * config.epochs))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text).ids)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _start_from_means(self) -> None:
        """Start the head as a nearest-mean classifier over the encoder as it is."""
        means = torch.zeros_like(self.model.head.weight)
        for vectors, labels in self._vectors(self.rows):
            means.index_add_(0, labels, torch.nn.functional.normalize(vectors, dim=1))
        means = torch.nn.functional.normalize(means, dim=1)
        self.model.head.weight.copy_(4.0 * (means - means.mean(0)))
        self.model.head.bias.zero_()

    def _vectors(
        self, rows: Sequence[tuple[list[int], int]]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.model.eval()
        for batch in _by_length(rows, 64):
            ids, seen = padded([tokens for tokens, _ in batch])
            yield mean_states(self.model.bert, ids, seen), torch.tensor([y for _, y in batch])

    def train(self, validation: Sequence[Example], *, progress: bool) -> Trained:
        """Epochs until the schedule ends or nothing gets better."""
        held = [(self._ids(text), self.place[label]) for text, label in validation]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.model.bert.parameters() if p.requires_grad]},
                {
                    "params": list(self.model.head.parameters()),
                    "lr": 10 * self.config.learning_rate,
                },
            ],
            lr=self.config.learning_rate,
            weight_decay=0.01,
        )
        began = time.monotonic()
        curve = [(0.0, self._accuracy(held))]
        best, kept, stale = curve[0][1], _copy(self.model), 0
        bar = Progress(
            TextColumn("classifier"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            disable=not progress,
        )
        with bar:
            task = bar.add_task("train", total=self.total, state="")
            for step, batch in enumerate(islice(self._batches(), self.total), start=1):
                loss = self._step(optimizer, batch, step)
                bar.update(task, advance=1, state=f"{step}/{self.total} loss {loss:.3f}")
                if step % self._epoch == 0 or step == self.total:
                    curve.append((step / self._epoch, self._accuracy(held)))
                    stale = stale + 1 if curve[-1][1] <= best else 0
                    if not stale:
                        best, kept = curve[-1][1], _copy(self.model)
                    if stale >= self.config.patience:
                        break
        self.model.load_state_dict(kept)
        seconds = round(time.monotonic() - began, 1)
        return Trained(self.model.eval(), self.tokenizer, self.labels, tuple(curve), seconds)

    @property
    def _epoch(self) -> int:
        """Steps of an epoch."""
        return max(1, math.ceil(len(self.rows) / self.config.batch))

    def _batches(self) -> Iterator[list[tuple[list[int], int]]]:
        """Batches of like length, shuffled anew each epoch."""
        rng = random.Random(self.config.seed)
        for _ in range(math.ceil(self.config.epochs)):
            order = rng.sample(self.rows, k=len(self.rows))
            size = self.config.batch * _BUCKETS
            found: list[list[tuple[list[int], int]]] = []
            for start in range(0, len(order), size):
                found.extend(_by_length(order[start : start + size], self.config.batch))
            rng.shuffle(found)
            yield from found

    def _step(
        self, optimizer: torch.optim.Optimizer, batch: list[tuple[list[int], int]], step: int
    ) -> float:
        schedule = _share(step, self.total, self.config.warmup_share)
        for group, scale in zip(optimizer.param_groups, (1.0, 10.0), strict=True):
            group["lr"] = scale * self.config.learning_rate * schedule
        self.model.train()
        ids, seen = padded([tokens for tokens, _ in batch])
        labels = torch.tensor([label for _, label in batch])
        words = self.model.bert.embeddings.word_embeddings(ids).detach().requires_grad_()
        loss = self._loss(words, seen, labels)
        loss.backward()
        if self.config.adversarial and words.grad is not None:
            length = words.grad.norm(dim=2, keepdim=True) + 1e-8
            moved = words.detach() + self.config.adversarial * words.grad / length
            self._loss(moved, seen, labels).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _loss(self, words: torch.Tensor, seen: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model.of_words(words, seen)
        return torch.nn.functional.cross_entropy(
            logits.float(),
            labels,
            weight=self.weights,
            label_smoothing=self.config.smoothing,
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _accuracy(self, held: Sequence[tuple[list[int], int]]) -> float:
        self.model.eval()
        right = 0
        for vectors, labels in self._vectors(held):
            right += int((self.model.head(vectors).argmax(1) == labels).sum())
        return round(right / len(held), 4)


def _with_lora(bert: Any, rank: int) -> Any:
    """The encoder, all layers free, or frozen under LoRA of a rank."""
    if not rank:
        return bert
    from peft import LoraConfig, get_peft_model

    targets = ["query", "key", "value", "dense"]
    return get_peft_model(bert, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))


def _class_weights(
    labels: Sequence[int], count: int, config: ClassifyConfig
) -> torch.Tensor | None:
    """Weights by the inverse root of a label's frequency, mean one; None where switched off."""
    if not config.class_weights:
        return None
    seen = Counter(labels)
    weights = torch.tensor([1 / math.sqrt(max(1, seen[label])) for label in range(count)])
    return weights / weights.mean()


def _by_length(
    rows: Sequence[tuple[list[int], int]], size: int
) -> list[list[tuple[list[int], int]]]:
    """Batches of rows of like length."""
    order = sorted(rows, key=lambda row: len(row[0]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _share(step: int, total: int, warmup_share: float) -> float:
    """The share of the learning rate at a step: warm-up, then a cosine to 3 %."""
    warmup = max(1, round(total * warmup_share))
    if step <= warmup:
        return step / warmup
    return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}

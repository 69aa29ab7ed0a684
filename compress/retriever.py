"""Teaches a sentence encoder to find entries by needs that are told in other words.

Contrastive training (InfoNCE: van den Oord et al., arXiv 1807.03748) with the entries of the same
business as hard negatives, and near misses pushed below answers (sigmoid loss: Zhai et al., arXiv
2303.15343). Reads the same rows as `finetune`; knows nothing of routing or of generation.
"""

import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from ..agent.errors import ConfigError, FeatherdeskError
from ..agent.prompt import REFUSAL
from .bert import Schedule, batches, fit, load_onnx_bert, mean_states, padded, save_layers
from .dataset import Row

__all__ = ["RetrieverConfig", "train_retriever"]

MAX_TOKENS = 80
BUCKET = 32
_BORROWED = frozenset({"banking77", "clinc150"})
"""Sources whose answers are another topic's: they teach nothing about what answers what."""


@dataclass(frozen=True, slots=True)
class RetrieverConfig:
    """What shapes a run: `batch` rows a step, `alike` the cosine over which entries of different
    rows are not held against each other, `near_weight` the weight of the near-miss loss."""

    learning_rate: float = 1e-4
    steps: int = 600
    batch: int = 24
    warmup_share: float = 0.06
    alike: float = 0.8
    near_weight: float = 0.3
    evaluate_every: int = 50
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate must be in (0, 1), not {self.learning_rate}")


@dataclass(frozen=True, slots=True)
class _Example:
    """One row: what was asked with the place of its entry (-1: none answers), and the entries."""

    asked: tuple[tuple[str, int], ...]
    entries: tuple[tuple[str, str], ...]
    group: str


def _example(row: Row) -> _Example | None:
    """Questions that one entry answers and near misses; follow-ups and double ones are left out."""
    asked = []
    for question in row.questions:
        if question.history:
            continue
        if question.target == REFUSAL:
            asked.append((question.text, -1))
            continue
        told = question.target.lower()
        places = [n for n, e in enumerate(row.entries) if e.answer.lower().endswith(told)]
        if len(places) == 1:
            asked.append((question.text, places[0]))
    if not asked:
        return None
    borrowed = row.source in _BORROWED
    entries = tuple(
        (e.question, e.question if borrowed else f"{e.question} {e.answer}") for e in row.entries
    )
    return _Example(tuple(asked), entries, row.group)


class _Encoder:
    """Mean-pooled unit vectors of a torch BERT."""

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors, shape (len(texts), hidden), computed in groups of like length."""
        found = self.tokenizer.encode_batch(list(texts))
        order = sorted(range(len(found)), key=lambda place: len(found[place].ids))
        parts = [order[start : start + BUCKET] for start in range(0, len(order), BUCKET)]
        made = torch.cat([self._made([found[place] for place in part]) for part in parts])
        return made[torch.argsort(torch.tensor(order))]

    def _made(self, found: Sequence[Any]) -> torch.Tensor:
        pooled = mean_states(self.model, *padded([item.ids for item in found]))
        return torch.nn.functional.normalize(pooled, dim=1)


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def train_retriever(
    base: Path,
    rows: Sequence[Row],
    validation: Sequence[Row],
    out: Path,
    config: RetrieverConfig,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the layers of the encoder in `base` and write them to `out`; returns the curve.

    Word vectors stay as they are: words that no row holds keep their meaning. The curve is the
    share of validation questions whose entry comes first among the entries of a batch; the
    weights of its best step are written.

    Raises:
        FeatherdeskError: no row holds a question that one entry answers.
    """
    torch.manual_seed(config.seed)
    examples = [e for e in map(_example, rows) if e is not None]
    held = [e for e in map(_example, validation) if e is not None]
    if len(examples) < config.batch or not held:
        raise FeatherdeskError(
            f"{len(examples)} rows hold a question with its entry; a step needs {config.batch}"
        )
    plain = _Encoder(load_onnx_bert(base / "model.onnx"), _tokenizer(base))
    model = load_onnx_bert(base / "model.onnx")
    model.embeddings.word_embeddings.requires_grad_(False)
    encoder = _Encoder(model, plain.tokenizer)
    scale = torch.nn.Parameter(torch.tensor(math.log(20.0)))
    edge = torch.nn.Parameter(torch.tensor(-0.5))
    batch = batches(examples, config.batch, config.seed)
    rng = random.Random(config.seed)
    began = time.monotonic()
    curve = fit(
        [
            {
                "params": [p for p in model.parameters() if p.requires_grad],
                "lr": config.learning_rate,
            },
            {"params": [scale, edge], "lr": 3e-3},
        ],
        lambda: _loss(encoder, plain, next(batch), scale, edge, config, rng),
        lambda: _accuracy(encoder, plain, held, config),
        lambda: save_layers(model, out),
        Schedule(config.steps, config.warmup_share, config.evaluate_every),
        name="encoder",
        progress=progress,
    )
    told = {
        "config": asdict(config),
        "rows": len(examples),
        "curve": curve,
        "seconds": round(time.monotonic() - began, 1),
    }
    (out / "training.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return told


@dataclass(frozen=True, slots=True)
class _Scored:
    """Cosines (queries, entries), who is right (-1: none), and which pairs count."""

    cosine: torch.Tensor
    right: torch.Tensor
    own: torch.Tensor
    counts: torch.Tensor


def _scores(
    encoder: _Encoder,
    plain: _Encoder,
    batch: Sequence[_Example],
    config: RetrieverConfig,
    rng: random.Random,
) -> _Scored:
    """Every question of a batch against every entry, as its question alone or with its answer.

    Entries of other rows that are alike do not count, and none of them against a near miss.
    """
    row_of_entry = [n for n, e in enumerate(batch) for _ in e.entries]
    starts = np.cumsum([0, *(len(e.entries) for e in batch)])
    asked = [(n, text, place) for n, e in enumerate(batch) for text, place in e.asked]
    right = [int(starts[n]) + place if place >= 0 else -1 for n, _, place in asked]
    with torch.no_grad():
        titles = plain([pair[0] for e in batch for pair in e.entries])
        alike = titles @ titles.T > config.alike
    questions = encoder([text for _, text, _ in asked])
    entries = encoder([rng.choice(pair) for e in batch for pair in e.entries])
    own = torch.tensor([[n == other for other in row_of_entry] for n, _, _ in asked])
    counts = torch.ones_like(own)
    for i, (n, _, place) in enumerate(asked):
        about = right[i] if place >= 0 else int(starts[n])
        for j, other in enumerate(row_of_entry):
            same = alike[about, j] or (n != other and batch[n].group == batch[other].group)
            if j != right[i] and same:
                counts[i, j] = place < 0 and n == other
    return _Scored(questions @ entries.T, torch.tensor(right), own, counts)


def _loss(
    encoder: _Encoder,
    plain: _Encoder,
    batch: Sequence[_Example],
    scale: torch.Tensor,
    edge: torch.Tensor,
    config: RetrieverConfig,
    rng: random.Random,
) -> torch.Tensor:
    """InfoNCE over the batch, and for each row's own entries: does this one answer or not?"""
    found = _scores(encoder, plain, batch, config, rng)
    logits = (found.cosine * scale.exp()).masked_fill(~found.counts, -1e4)
    answered = found.right >= 0
    loss = torch.nn.functional.cross_entropy(logits[answered], found.right[answered])
    wanted = (torch.arange(logits.shape[1])[None] == found.right[:, None]).float()
    margins = (found.cosine + edge) * scale.exp() * 0.5
    each = torch.nn.functional.binary_cross_entropy_with_logits(margins, wanted, reduction="none")
    return loss + config.near_weight * each[found.own & found.counts].mean()


@torch.no_grad()  # type: ignore[untyped-decorator]
def _accuracy(
    encoder: _Encoder, plain: _Encoder, held: Sequence[_Example], config: RetrieverConfig
) -> float:
    right = total = 0
    rng = random.Random(0)
    for start in range(0, len(held), config.batch):
        found = _scores(encoder, plain, held[start : start + config.batch], config, rng)
        answered = found.right >= 0
        best = found.cosine.masked_fill(~found.counts, -2.0).argmax(1)
        right += int((best == found.right)[answered].sum())
        total += int(answered.sum())
    return round(right / max(1, total), 4)

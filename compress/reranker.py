"""Trains the reranker: a cross-encoder that says which entry answers a question, or that none does.

    python -m featherdesk.compress.reranker --data ../shared/data --out OUT --start-from retriever

A softmax over the candidates and a constant 0, "none of them" (listwise: Cao et al., ICML 2007), so
that near misses are what the score is calibrated on. Knows nothing of how the groups are made.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click
import torch
from tokenizers import Tokenizer

from ..agent.catalog import fetch
from ..agent.cli import run
from ..agent.encoder import Encoder, MiniLM
from ..agent.errors import ConfigError, FeatherdeskError
from ..agent.generators import adapter_folder
from ..agent.progress import track
from ..agent.reranker import pair_ids
from .bert import Schedule, batches, fit, load_onnx_bert, mean_states, merged, padded, save_layers
from .commands import write_card
from .corpora import load_topics, split_topics
from .mixture import HELD_OUT
from .pairs import (
    Group,
    faq_groups,
    intent_groups,
    load_groups,
    save_groups,
    topic_groups,
)
from .public import banking77, bitext, clinc150

__all__ = ["RerankerConfig", "train_reranker", "training_groups"]

BASE = "minilm-l6-v2-int8"
BUCKET = 32
SHARES = {"topics": 0.7, "dstc9": 0.16, "bitext": 0.06, "banking77": 0.04, "clinc150": 0.04}
_NOBODY = -1e4


@dataclass(frozen=True, slots=True)
class RerankerConfig:
    """What shapes a run: `batch` groups a step; the head learns `head_rate` times as fast."""

    learning_rate: float = 1.5e-4
    head_rate: float = 10.0
    steps: int = 1400
    batch: int = 24
    dropout: float = 0.1
    warmup_share: float = 0.08
    evaluate_every: int = 100
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate must be in (0, 1), not {self.learning_rate}")


class _CrossEncoder(torch.nn.Module):  # type: ignore[misc]
    """A score over the mean token state of question and entry together."""

    def __init__(self, bert: Any, tokenizer: Tokenizer, dropout: float) -> None:
        super().__init__()
        self.bert = bert
        self.head = torch.nn.Linear(bert.config.hidden_size, 1)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
        self._tokenizer = tokenizer
        for module in bert.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout

    def scores(self, groups: Sequence[Group]) -> torch.Tensor:
        """Scores of every group's candidates and of none (last), shape (groups, most + 1)."""
        pairs = [
            pair_ids(self._tokenizer, group.question, wording, answer, group.before)
            for group in groups
            for wording, answer in group.entries
        ]
        order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][0]))
        parts = [order[start : start + BUCKET] for start in range(0, len(order), BUCKET)]
        made = torch.cat([self._scores([pairs[place] for place in part]) for part in parts])
        made = made[torch.argsort(torch.tensor(order))]
        most = max(len(group.entries) for group in groups)
        nobody = torch.full((most,), _NOBODY)
        taken = [len(group.entries) for group in groups]
        rows = [
            torch.cat([part, nobody[len(part) :], torch.zeros(1)]) for part in made.split(taken)
        ]
        return torch.stack(rows)

    def _scores(self, pairs: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
        ids, seen = padded([tokens for tokens, _ in pairs])
        kinds, _ = padded([segments for _, segments in pairs])
        return torch.as_tensor(self.head(mean_states(self.bert, ids, seen, kinds))[:, 0])

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def take(self, weights: torch.Tensor) -> None:
        """Go on from a head that `weights` gave."""
        self.head.weight.copy_(weights[None, :-1])
        self.head.bias.copy_(weights[-1:])

    def weights(self) -> torch.Tensor:
        """Weights and bias of the head in one row."""
        return torch.cat([self.head.weight[0], self.head.bias]).float()


def train_reranker(
    base: Path,
    start: Path | None,
    groups: Sequence[Group],
    validation: Sequence[Group],
    out: Path,
    config: RerankerConfig,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the layers of the encoder in `base` (from those of the adapter `start`) into `out`.

    The curve is the share of validation groups with the right choice, none of them included.

    Raises:
        FeatherdeskError: there are fewer groups than a step needs, or none to judge by.
    """
    if len(groups) < config.batch or not validation:
        raise FeatherdeskError(
            f"{len(groups)} groups to train on and {len(validation)} to judge by; a step needs "
            f"{config.batch}"
        )
    torch.manual_seed(config.seed)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    bert, head = merged(base, start) if start else (load_onnx_bert(base / "model.onnx"), None)
    bert.embeddings.word_embeddings.requires_grad_(False)
    model = _CrossEncoder(bert, tokenizer, config.dropout).train()
    if head is not None:
        model.take(head)
    batch = batches(groups, config.batch, config.seed)
    rate = config.learning_rate
    began = time.monotonic()
    curve = fit(
        [
            {"params": [p for p in bert.parameters() if p.requires_grad], "lr": rate},
            {"params": list(model.head.parameters()), "lr": rate * config.head_rate},
        ],
        lambda: _loss(model, next(batch)),
        lambda: _accuracy(model, validation),
        lambda: save_layers(bert, out, model.weights()),
        Schedule(config.steps, config.warmup_share, config.evaluate_every),
        name="reranker",
        progress=progress,
    )
    told = {
        "config": asdict(config),
        "groups": len(groups),
        "curve": curve,
        "seconds": round(time.monotonic() - began, 1),
    }
    (out / "training.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return told


def _right(groups: Sequence[Group], scores: torch.Tensor) -> torch.Tensor:
    none = scores.shape[1] - 1
    return torch.tensor([group.right if group.right >= 0 else none for group in groups])


def _loss(model: _CrossEncoder, groups: Sequence[Group]) -> torch.Tensor:
    scores = model.scores(groups)
    return torch.nn.functional.cross_entropy(scores, _right(groups, scores))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _accuracy(model: _CrossEncoder, groups: Sequence[Group]) -> float:
    model.eval()
    right = 0
    for start in range(0, len(groups), BUCKET):
        part = groups[start : start + BUCKET]
        scores = model.scores(part)
        right += int((scores.argmax(1) == _right(part, scores)).sum())
    model.train()
    return round(right / len(groups), 4)


def training_groups(data: Path | None, encoder: Encoder, count: int, seed: int) -> list[Group]:
    """About `count` groups from every source that is there."""
    topics, _ = split_topics(load_topics())
    if data is None:
        return list(topic_groups(topics, encoder, count, seed))
    n = {name: round(count * share) for name, share in SHARES.items()}
    knowledge = data / "dstc9_faq_kb" / "knowledge.train.json"
    said, answers = bitext(
        data / "bitext_customer_support" / "bitext_support_instruction_response.csv"
    )
    banking = banking77(data / "banking77" / "train.csv")
    clinc = clinc150(data / "clinc150" / "data_full.json")
    sources = [
        topic_groups(topics, encoder, n["topics"], seed),
        faq_groups(knowledge, HELD_OUT, encoder, n["dstc9"], seed + 1),
        intent_groups(said, answers, encoder, n["bitext"], seed + 2, "bitext"),
        intent_groups(banking, {}, encoder, n["banking77"], seed + 3, "banking77"),
        intent_groups(clinc, {}, encoder, n["clinc150"], seed + 4, "clinc150"),
    ]
    return list(chain(*track(sources, "writing groups")))


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The adapter folder.")
@click.option("--start-from", default="retriever", show_default=True)
@click.option("--groups", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--count", type=click.IntRange(100), default=24000, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=1400, show_default=True)
@click.option("--seed", type=int, default=21, show_default=True)
def main(
    data: Path | None,
    *,
    out: Path,
    start_from: str,
    groups: Path | None,
    count: int,
    steps: int,
    seed: int,
) -> None:
    """Write training groups (or take `--groups` of a run before), train on them, write the card."""
    out.mkdir(parents=True, exist_ok=True)
    encoder = MiniLM(fetch(BASE), 2, BASE)
    _, held = split_topics(load_topics())
    validation = list(topic_groups(held, encoder, 480, seed + 10))[:480]
    known = load_groups(groups) if groups else training_groups(data, encoder, count, seed)
    save_groups(known, out / "groups.jsonl")
    config = RerankerConfig(steps=steps)
    start = adapter_folder(start_from)
    told = train_reranker(fetch(BASE), start, known, validation, out, config)
    sources = sorted({group.source for group in known})
    write_card(out, base=BASE, data=sources, start_from=start_from)
    click.echo(json.dumps(told))


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.reranker")

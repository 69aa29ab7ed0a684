"""Fits what the router believes before it has seen a bot: agent/prior.json.

    python -m featherdesk.compress.prior minilm-l6-v2-support ENCODER --reranker RERANKER

Bots are made of topics that no adapter was trained on: four wordings of a topic are the
entry's, the others are asked; near misses and other bots' questions have no answer. Knows
nothing of training.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click
import numpy as np

from ..agent.calibration import Prior
from ..agent.cli import run
from ..agent.encoder import Encoder, MultilingualUse, open_encoder
from ..agent.index import Candidate, Index
from ..agent.progress import track
from ..agent.reranker import RERANKER, CrossEncoder, Reranker
from ..agent.scoring import RIDGE, Scorer, Weights, fit_first, fit_order, fit_sure
from .augment import noisy
from .corpora import Topic, load_topics, split_topics, told_entry

__all__ = ["fit_prior", "topic_bots"]

KEPT = 0.95
_MAX_READ = 1600


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question to one of the bots; `owner` is -1 where no entry answers."""

    index: Index
    text: str
    candidates: list[Candidate]
    owner: int


def fit_prior(
    encoder: Encoder, reranker: Reranker | None, topics: Sequence[Topic], seed: int = 3
) -> Prior:
    """Weights of both stages and `answer`, the score that keeps `KEPT` of what is found right."""
    rng = random.Random(seed)
    asked = [one for bot in topic_bots(topics, rng) for one in _asked(encoder, bot, rng)]
    weights = fit_first([(a.candidates, a.owner) for a in asked], Weights())
    if reranker is not None:
        asked = rng.sample(asked, k=min(len(asked), _MAX_READ))
        found = [
            (Scorer(a.index, weights, reranker).read(a.text, a.candidates), a.owner)
            for a in track(asked, "reading")
        ]
        read = [(reading, owner) for reading, owner in found if reading is not None]
        weights = fit_sure(read, fit_order(read, weights), RIDGE)
    right = []
    for a in track([a for a in asked if a.owner >= 0], "scoring"):
        best = Scorer(a.index, weights, reranker).scored(a.text, [a.candidates])[0]
        if best.candidate.entry == a.owner:
            right.append(best.score)
    return Prior(weights, round(float(np.quantile(right, 1 - KEPT)), 4))


def topic_bots(topics: Sequence[Topic], rng: random.Random) -> Iterator[list[Topic]]:
    """Every topic in three bots of about 30, so that each meets different neighbours."""
    for _ in range(3):
        order = list(topics)
        rng.shuffle(order)
        for start in range(0, len(order), 30):
            yield order[start : start + 30]


def _asked(encoder: Encoder, topics: Sequence[Topic], rng: random.Random) -> list[_Asked]:
    """The questions to one bot with their measured candidates."""
    told = [told_entry(topic, rng) for topic in topics]
    index = Index.build([entry for entry, _, _ in told], encoder)
    today = date.today()
    texts = [
        (noisy(text, rng), owner)
        for number, (_, others, near) in enumerate(told)
        for text, owner in (*((t, number) for t in others), *((t, -1) for t in near))
    ]
    vectors = encoder.embed([text for text, _ in texts])
    return [
        _Asked(index, text, index.candidates(text, vector, today=today), owner)
        for (text, owner), vector in zip(texts, vectors, strict=True)
    ]


@click.command()
@click.argument("identity")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--reranker", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(identity: str, folder: Path, *, reranker: Path | None) -> None:
    """Fit the prior of an encoder (and a reranker) and write it into agent/prior.json.

    The same English encoder beside the multilingual one starts from it too.
    """
    _, held = split_topics(load_topics())
    second = CrossEncoder(reranker, 2) if reranker else None
    prior = fit_prior(open_encoder(identity, folder, 2), second, held)
    told = {
        "weights": {
            "first": [round(weight, 4) for weight in prior.weights.first],
            "order": prior.weights.order,
            "sure": [round(weight, 4) for weight in prior.weights.sure],
        },
        "answer": prior.answer,
    }
    path = Path(__file__).parents[1] / "agent" / "prior.json"
    priors = json.loads(path.read_text(encoding="utf-8"))
    for name in (identity, f"{identity}+{MultilingualUse.id}"):
        priors[f"{name}|{RERANKER}" if reranker else name] = told
    path.write_text(json.dumps(priors, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(told))


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.prior")

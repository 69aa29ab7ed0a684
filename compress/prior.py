"""Fits what the router believes of an encoder before it has seen a bot: agent/prior.json.

    python -m featherdesk.compress.prior minilm-l6-v2-support ENCODER_FOLDER

Bots are made of topics that the encoder was not trained on: four wordings of a topic are the
entry's, the others are asked; near misses and other bots' questions have no answer. Knows
nothing of training.
"""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import click
import numpy as np

from ..agent.encoder import Encoder, open_encoder
from ..agent.index import Candidate, Index
from ..agent.router import fit_scorer, probability_of_best
from .augment import noisy
from .corpora import Topic, load_topics, split_topics, told_entry

__all__ = ["fit_prior", "topic_bots"]

KEPT = 0.95
Group = tuple[list[Candidate], int]


def fit_prior(encoder: Encoder, topics: Sequence[Topic], seed: int = 3) -> dict[str, object]:
    """Weights (bias last) and `answer`, the score that keeps `KEPT` of what is found right."""
    rng = random.Random(seed)
    asked: list[Group] = []
    foreign: list[Group] = []
    for bot in topic_bots(topics, rng):
        own, strange = _groups(encoder, bot, rng)
        asked.extend(own)
        foreign.extend(strange)
    weights = fit_scorer([*asked, *foreign])
    best = [(*probability_of_best(candidates, weights), owner) for candidates, owner in asked]
    right = [score for score, found, owner in best if found == owner]
    answer = float(np.quantile(right, 1 - KEPT))
    return {
        "weights": [round(float(w), 4) for w in weights],
        "answer": round(answer, 4),
    }


def topic_bots(topics: Sequence[Topic], rng: random.Random) -> Iterator[list[Topic]]:
    """Every topic in three bots of about 30, so that each meets different neighbours."""
    for _ in range(3):
        order = list(topics)
        rng.shuffle(order)
        for start in range(0, len(order), 30):
            yield order[start : start + 30]


def _groups(
    encoder: Encoder, topics: Sequence[Topic], rng: random.Random
) -> tuple[list[Group], list[Group]]:
    """Measured candidates of the questions with an entry, and of those without one."""
    told = [told_entry(topic, rng) for topic in topics]
    index = Index.build([entry for entry, _, _ in told], encoder)
    today = date.today()

    def measured(texts: Sequence[str]) -> list[list[Candidate]]:
        vectors = encoder.embed(texts)
        return [index.candidates(t, v, today=today) for t, v in zip(texts, vectors, strict=True)]

    own: list[Group] = []
    near: list[str] = []
    for number, (_, others, misses) in enumerate(told):
        texts = [noisy(text, rng) for text in others]
        own.extend((candidates, number) for candidates in measured(texts))
        near.extend(noisy(text, rng) for text in misses)
    return own, [(candidates, -1) for candidates in measured(near)]


@click.command()
@click.argument("identity")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(identity: str, folder: Path) -> None:
    """Fit the prior of an encoder and write it into agent/prior.json."""
    _, held = split_topics(load_topics())
    told = fit_prior(open_encoder(identity, folder, 2), held)
    path = Path(__file__).parents[1] / "agent" / "prior.json"
    priors = json.loads(path.read_text(encoding="utf-8"))
    priors[identity] = told
    path.write_text(json.dumps(priors, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(told))


if __name__ == "__main__":
    main()

"""Fits when a model's refusal is taken, and writes it into the card of its adapter.

    python -m featherdesk.compress.refusal ADAPTER GENERATOR ENCODER RERANKER

Bots made of topics that no adapter saw are asked questions they answer and near misses; a
logistic regression weighs the router's score against the model's own doubt. Knows nothing of
how either was trained.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from sklearn.linear_model import LogisticRegression

from ..agent.calibration import calibrate
from ..agent.cli import run
from ..agent.encoder import ENGLISH, Encoder, open_encoder
from ..agent.index import Index
from ..agent.progress import track
from ..agent.prompt import REFUSAL, render
from ..agent.reranker import CrossEncoder, Reranker
from ..agent.router import Router
from ..agent.runtime import OnnxGenerator
from ..agent.scoring import from_odds, log_odds
from .augment import noisy
from .corpora import Topic, load_topics, split_topics, told_entry
from .prior import topic_bots

__all__ = ["Asked", "ask_topics", "fit_refusal"]


_STEEPEST = 8.0
"""Beyond it the router decides alone."""

_SUREST = 9.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: the log-odds of the router and of the model's refusal, and what is right."""

    router: float
    refusal: float
    first: bool
    answerable: bool


def ask_topics(
    topics: Sequence[Topic],
    encoder: Encoder,
    reranker: Reranker | None,
    generator: OnnxGenerator,
    seed: int = 4,
) -> list[Asked]:
    """Ask bots made of `topics` four wordings and four near misses each."""
    rng = random.Random(seed)
    refusal = generator.encode(REFUSAL)[0]
    found = []
    for bot in track(list(topic_bots(topics, rng))[: -(-len(topics) // 30)], "asking"):
        told = [told_entry(topic, rng) for topic in bot]
        index = Index.build([entry for entry, _, _ in told], encoder)
        router = Router(index, calibrate(index, reranker), reranker=reranker)
        by_id = {entry.id: entry for entry in index.entries}
        for entry, others, near in told:
            questions = [(text, True) for text in others[:4]] + [(text, False) for text in near[:4]]
            for text, answerable in questions:
                asked = noisy(text, rng)
                passed = router.nearest(asked)
                ids = [
                    token
                    for block in render([by_id[m.entry_id] for m in passed], asked).texts
                    for token in generator.encode(block)
                ]
                doubt = float(generator.first(ids, [refusal])[0])
                first = passed[0].entry_id == entry.id
                found.append(Asked(log_odds(passed[0].score), log_odds(doubt), first, answerable))
    return found


def fit_refusal(asked: Sequence[Asked], kept: float) -> dict[str, float]:
    """`refusal_threshold` and `refusal_slope` that keep `kept` of the questions found right."""
    right = [a for a in asked if a.answerable and a.first]
    wrong = [a for a in asked if not a.answerable]
    x = np.array([[a.router, a.refusal] for a in (*right, *wrong)])
    y = np.array([0] * len(right) + [1] * len(wrong))
    model = LogisticRegression(class_weight="balanced").fit(x, y)
    router, doubt = (float(weight) for weight in model.coef_[0])
    steepest = max(0.0, -router / doubt) if doubt > 0 else _STEEPEST
    slope, edge = _within(right, min(steepest, _STEEPEST), kept)
    refused = np.mean([a.refusal - slope * a.router >= edge for a in wrong])
    return {
        "refusal_threshold": round(from_odds(edge), 5),
        "refusal_slope": round(slope, 4),
        "near_misses_refused": round(float(refused), 4),
        "kept": kept,
    }


def _within(right: Sequence[Asked], steepest: float, kept: float) -> tuple[float, float]:
    """The steepest slope whose edge is no surer than log-odds are held to, with that edge."""
    for slope in np.linspace(steepest, 0, 33):
        edge = float(np.quantile([a.refusal - slope * a.router for a in right], kept))
        if abs(edge) <= _SUREST:
            break
    return float(slope), edge


@click.command()
@click.argument("adapter", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("generator", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("encoder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("reranker", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--topics", default="topics_*.jsonl", show_default=True, help="Files to ask from.")
@click.option("--kept", type=click.FloatRange(0.5, 1), default=0.96, show_default=True)
def main(
    adapter: Path, generator: Path, encoder: Path, reranker: Path, *, topics: str, kept: float
) -> None:
    """Fit the refusal of an adapter and write it into its card.json."""
    _, held = split_topics(load_topics(topics))
    asked = ask_topics(
        held,
        open_encoder(ENGLISH, encoder, 2),
        CrossEncoder(reranker, 2),
        OnnxGenerator(generator, 2),
    )
    told = fit_refusal(asked, kept)
    path = adapter / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    card["refusal_threshold"] = told["refusal_threshold"]
    card["refusal_slope"] = told["refusal_slope"]
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps({**told, "questions": len(asked)}))


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.refusal")

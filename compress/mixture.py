"""Writes the training rows of the shipped adapters: which sources, how much of each.

    python -m featherdesk.compress.mixture --data ../shared/data --out rows.jsonl --count 15000

The public sets are not part of the project; without `--data` the rows come from our own topics.
Knows nothing of how rows are made (see `corpora`) or trained on.
"""

import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from ..agent.catalog import fetch
from ..agent.cli import run
from ..agent.encoder import MiniLM
from . import dataset
from .corpora import faq_rows, intent_rows, load_topics, split_topics, topic_rows
from .dataset import Row
from .public import banking77, bitext, clinc150

__all__ = ["HELD_OUT", "mixture"]

HELD_OUT = (
    *("hotel/16", "hotel/21", "hotel/13", "hotel/9", "hotel/5"),
    *("hotel/6", "hotel/24", "hotel/0", "hotel/12", "hotel/18"),
    *("restaurant/19227", "restaurant/19250", "restaurant/12482", "restaurant/19210"),
    *("restaurant/19239", "restaurant/19251", "restaurant/19266", "restaurant/7236"),
    *("restaurant/19272", "restaurant/19216", "restaurant/19173", "restaurant/19267"),
)
"""Businesses of the DSTC9 FAQ that no adapter may be trained on: `tests/evaluate_unseen.py`."""

SHARES = {"topics": 0.62, "dstc9": 0.2, "bitext": 0.1, "banking77": 0.04, "clinc150": 0.04}


def mixture(data: Path | None, count: int, seed: int) -> list[Row]:
    """About `count` rows from every source that is there, shuffled."""
    topics, _ = split_topics(load_topics())
    rows: list[Iterator[Row]] = []
    if data is None:
        rows.append(topic_rows(topics, count, seed))
    else:
        n = {name: round(count * share) for name, share in SHARES.items()}
        encoder = MiniLM(fetch("minilm-l6-v2-int8"), 2, "minilm-l6-v2-int8")
        knowledge = data / "dstc9_faq_kb" / "knowledge.train.json"
        said, answers = bitext(
            data / "bitext_customer_support" / "bitext_support_instruction_response.csv"
        )
        banking = banking77(data / "banking77" / "train.csv")
        clinc = clinc150(data / "clinc150" / "data_full.json")
        rows += [
            topic_rows(topics, n["topics"], seed),
            faq_rows(knowledge, HELD_OUT, encoder, n["dstc9"], seed + 1),
            intent_rows(said, answers, topics, n["bitext"], seed + 2, "bitext"),
            intent_rows(banking, {}, topics, n["banking77"], seed + 3, "banking77"),
            intent_rows(clinc, {}, topics, n["clinc150"], seed + 4, "clinc150"),
        ]
    made = list(chain(*rows))
    random.Random(seed).shuffle(made)
    return made


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--validation", type=click.Path(path_type=Path), help="Rows of held-out topics.")
@click.option("--count", type=click.IntRange(1), default=15000, show_default=True)
@click.option("--seed", type=int, default=11, show_default=True)
def main(data: Path | None, *, out: Path, validation: Path | None, count: int, seed: int) -> None:
    """Write training rows to a JSONL file, and rows of topics that no adapter sees to another."""
    if validation is not None:
        _, held = split_topics(load_topics())
        dataset.save(topic_rows(held, 480, seed + 5), validation)
    click.echo(f"{dataset.save(mixture(data, count, seed), out)} rows in {out}", err=True)


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.mixture")

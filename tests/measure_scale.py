"""Builds an index of many entries and measures it: memory, time, recall against exact search.

    python tests/measure_scale.py 100000

Entries are made from the package's own topics: their questions with names and numbers put in, so
that no two are alike. The encoder is the real one; search is asked with reworded questions.
"""

import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import ENGLISH, open_encoder
from featherdesk.agent.generators import ensure_encoder
from featherdesk.agent.index import Index
from featherdesk.agent.router import Router
from featherdesk.agent.types import Entry
from featherdesk.compress.augment import noisy
from featherdesk.compress.corpora import Topic, load_topics

ASKED = 300


def _entries(topics: Sequence[Topic], count: int, rng: random.Random) -> Iterator[Entry]:
    """Entries about made-up products of made-up makers, one topic after the other."""
    sounds = ["ka", "ro", "mi", "ten", "vul", "sar", "do", "pel", "ni", "gra"]
    for number in range(count):
        topic = topics[number % len(topics)]
        name = "".join(rng.choice(sounds) for _ in range(3)).capitalize()
        question = rng.choice(topic.questions).rstrip("?")
        yield Entry(
            f"e{number}",
            f"{question} for the {name} {number}?",
            f"For the {name} {number}: {topic.answers[0]}",
        )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int) -> None:
    """Print one line a measure."""
    rng = random.Random(5)
    encoder = open_encoder(ENGLISH, Path(ensure_encoder(ENGLISH, print)), 2)
    entries = list(_entries(load_topics(), count, rng))
    before, began = _peak_mb(), time.monotonic()
    index = Index.build(entries, encoder)
    print(f"built {count} entries ({len(index.texts)} texts) in {time.monotonic() - began:.0f} s")
    print(f"peak memory {_peak_mb():.0f} MB, {_peak_mb() - before:.0f} MB of it for the build")
    with TemporaryDirectory() as name:
        began = time.monotonic()
        index.save(Path(name))
        size = sum(path.stat().st_size for path in Path(name).iterdir()) / 1e6
        print(f"saved {size:.0f} MB in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        index = Index.load(Path(name), encoder)
        print(f"loaded, words indexed anew, in {time.monotonic() - began:.1f} s")
        _search(index, entries, rng)
        began = time.monotonic()
        changed = [*entries[:-1], Entry("new", "Where is the moon?", "Above.")]
        Index.build(changed, encoder, index.known_vectors())
        print(f"one entry changed: built again in {time.monotonic() - began:.1f} s")


def _search(index: Index, entries: Sequence[Entry], rng: random.Random) -> None:
    """Recall of the graph, and times."""
    texts = [noisy(rng.choice(entries).question, rng) for _ in range(ASKED)]
    vectors = index.encoder.embed(texts)
    whole = np.asarray(index.vectors, np.float32)
    hits, search, route = 0, [], []
    router = Router(index, calibrate(index))
    for text, vector in zip(texts, vectors, strict=True):
        began = time.perf_counter()
        places, cosine = index.neighbours.search(vector)
        search.append(time.perf_counter() - began)
        exact = set(np.argpartition(-(whole @ vector), 10)[:10].tolist())
        hits += len(exact & set(places[np.argsort(-cosine)[:10]].tolist()))
        began = time.perf_counter()
        index.candidates(text, vector, today=date.today())
        search[-1] = max(search[-1], time.perf_counter() - began)
        began = time.perf_counter()
        router.route(text)
        route.append(time.perf_counter() - began)
    print(f"recall@10 against exact search {hits / (10 * ASKED):.3f}")
    for name, found in (("search (vectors, words, measures)", search), ("whole routing", route)):
        p50, p95 = np.quantile(found, [0.5, 0.95]) * 1000
        print(f"{name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)

from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.encoder import Vectors
from featherdesk.agent.errors import ArtifactError
from featherdesk.agent.neighbours import Neighbours


def _vectors(count: int, dimensions: int = 32) -> Vectors:
    """Unit vectors in clusters, as sentences come."""
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(count // 20 + 1, dimensions))
    found = centres[rng.integers(len(centres), size=count)] + 0.6 * rng.normal(
        size=(count, dimensions)
    )
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_few_texts_are_all_compared() -> None:
    vectors = _vectors(50)
    places, cosine = Neighbours.build(vectors).search(vectors[7])
    assert list(places) == list(range(50))
    assert cosine.argmax() == 7


def test_a_graph_finds_nearly_all_that_exact_search_finds() -> None:
    vectors = _vectors(3000)
    graph = Neighbours.build(vectors.astype(np.float16), exact=100)
    hits = 0
    for query in vectors[:100]:
        exact = set(np.argsort(-(vectors @ query))[:10])
        places, cosine = graph.search(query)
        found = places[np.argsort(-cosine)[:10]]
        hits += len(exact & {int(n) for n in found})
    assert hits / 1000 >= 0.98


def test_a_graph_reads_back_and_must_fit_its_vectors(tmp_path: Path) -> None:
    vectors = _vectors(400)
    Neighbours.build(vectors, exact=100).save(tmp_path)
    again = Neighbours.load(tmp_path, vectors)
    places, cosine = again.search(vectors[3])
    assert places[cosine.argmax()] == 3
    assert len(places) < len(vectors)
    with pytest.raises(ArtifactError, match="does not belong"):
        Neighbours.load(tmp_path, vectors[:300])

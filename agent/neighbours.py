"""The nearest texts of a vector: exact while there are few, else a graph.

The graph is HNSW (Malkov and Yashunin, arXiv 1603.09320) of usearch, memory-mapped from its file.
Knows nothing of entries: texts are numbered.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder import Vectors
from .errors import ArtifactError
from .progress import track

__all__ = ["EXACT", "Neighbours"]

EXACT = 30_000
"""Up to so many texts every vector is compared."""

FOUND, CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 120, 24, 128, 160
_CHUNK = 4096
_FILE = "neighbours.usearch"


class Neighbours:
    """Cosine search over unit vectors, shape (texts, dimensions)."""

    def __init__(self, vectors: Vectors, graph: Any = None) -> None:
        self._vectors, self._graph = vectors, graph

    @classmethod
    def build(cls, vectors: Vectors, *, exact: int = EXACT) -> "Neighbours":
        """Compare every vector up to `exact` texts; else link them into a graph."""
        if len(vectors) <= exact:
            return cls(vectors)
        graph = _graph(vectors.shape[1])
        for start in track(range(0, len(vectors), _CHUNK), "linking"):
            part = np.asarray(vectors[start : start + _CHUNK], np.float32)
            graph.add(np.arange(start, start + len(part), dtype=np.uint64), part)
        return cls(vectors, graph)

    def search(self, vector: NDArray[np.float32]) -> tuple[NDArray[np.int64], Vectors]:
        """Places of the nearest texts and their cosines; all of them where search is exact."""
        if self._graph is None:
            return np.arange(len(self._vectors)), self._vectors @ vector
        found = self._graph.search(vector, FOUND)
        places = found.keys.astype(np.int64)
        return places, np.asarray(self._vectors[places], np.float32) @ vector

    def save(self, folder: Path) -> None:
        """Write the graph, where there is one."""
        if self._graph is not None:
            self._graph.save(str(folder / _FILE))

    @classmethod
    def load(cls, folder: Path, vectors: Vectors) -> "Neighbours":
        """Read what `save` wrote.

        Raises:
            ArtifactError: the graph does not belong to the vectors.
        """
        path = folder / _FILE
        if not path.exists():
            return cls(vectors)
        graph = _graph(vectors.shape[1])
        graph.view(str(path))
        if len(graph) != len(vectors):
            raise ArtifactError(f"{path} does not belong to the vectors beside it; build anew")
        return cls(vectors, graph)


def _graph(dimensions: int) -> Any:
    from usearch.index import Index as Graph

    return Graph(
        ndim=dimensions,
        metric="ip",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )

"""A fine-tuned text classifier: an encoder and a linear head, as `featherdesk classify` writes it.

Where a bot has one, it reads questions beside the class head. Knows nothing of search.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .encoder import MiniLM
from .errors import ArtifactError

__all__ = ["REST", "TextClassifier"]

REST = ""
"""The label of texts that belong to no other."""


class TextClassifier:
    """`model.onnx` and `tokenizer.json` of an encoder; `classes.npz`: weights, shape (hidden,
    labels), and bias; `labels.json`: the labels, and texts it was not trained on."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self.folder = folder
        self._encoder = MiniLM(folder, threads, folder.name)
        try:
            told = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
            self.labels = tuple(str(label) for label in told["labels"])
            self.held_out = frozenset(str(text) for text in told.get("held_out", []))
            with np.load(folder / "classes.npz", allow_pickle=False) as held:
                self._weights, self._bias = held["weights"], held["bias"]
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder} is not a text classifier: {error}") from None
        if self._weights.shape != (MiniLM.dimensions, len(self.labels)):
            raise ArtifactError(f"{folder}: classes.npz and labels.json do not belong together")

    def log_probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-probabilities of the labels, shape (len(texts), len(labels))."""
        odds = self._encoder.pooled(texts).astype(np.float64) @ self._weights + self._bias
        odds -= odds.max(1, keepdims=True)
        return np.asarray(odds - np.log(np.exp(odds).sum(1, keepdims=True)), np.float64)

"""A message is embedded once, whoever asks for it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from featherdesk.agent.encoder import Remembering, Vectors


@dataclass
class Counting:
    """An encoder that keeps what it was asked."""

    id: str = "counting"
    dimensions: int = 2
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(tuple(texts))
        return np.array([[len(text), 1] for text in texts], np.float32)

    def is_word(self, word: str) -> bool:
        return word == "boots"


def test_what_was_asked_last_is_known() -> None:
    inner = Counting()
    encoder = Remembering(inner)
    assert (encoder.id, encoder.dimensions) == ("counting", 2)
    assert encoder.is_word("boots")
    first = encoder.embed(["boots"])
    assert encoder.embed(("boots",)).tolist() == first.tolist() == [[5, 1]]
    assert encoder.embed(["tents!", "boots", "tents!"])[:, 0].tolist() == [6, 5, 6]
    assert encoder.embed(["boots"]).tolist() == first.tolist()
    assert encoder.embed(["tents!"])[0, 0] == 6
    assert encoder.embed([]).shape == (0, 2)
    assert inner.asked == [("boots",), ("tents!",), ("tents!",)]


def test_nobody_changes_what_is_remembered() -> None:
    told = Remembering(Counting()).embed(["boots"])
    with pytest.raises(ValueError, match="read-only"):
        told += 1


def test_threads_remember_apart() -> None:
    inner = Counting()
    encoder = Remembering(inner)
    encoder.embed(["boots"])
    other = threading.Thread(target=encoder.embed, args=(["tents"],))
    other.start()
    other.join()
    encoder.embed(["boots"])
    assert inner.asked == [("boots",), ("tents",)]

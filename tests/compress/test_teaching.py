import math

import pytest
import torch
from featherdesk.agent.types import Entry
from featherdesk.compress.dataset import Question, Row, encode
from featherdesk.compress.forward import batch_of, in_view
from featherdesk.compress.teaching import doubt_gap, states_gap, words_gap


def _told(*shares: float) -> torch.Tensor:
    return torch.tensor([shares]).log()


def test_words_that_are_as_likely_teach_nothing() -> None:
    assert float(words_gap(_told(0.2, 0.8), _told(0.2, 0.8))) == pytest.approx(0, abs=1e-6)
    wanted = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    assert float(words_gap(_told(0.2, 0.8), _told(0.5, 0.5))) == pytest.approx(wanted, rel=1e-4)


def test_doubt_is_of_the_refusal_alone() -> None:
    said = _told(0.1, 0.6, 0.3)
    assert float(doubt_gap(said, _told(0.1, 0.3, 0.6), 0)) == pytest.approx(0, abs=1e-6)
    assert float(doubt_gap(said, _told(0.5, 0.2, 0.3), 0)) > 1


def test_only_tokens_of_one_view_are_held_against_each_other() -> None:
    """The second entry sees the first in what the parent reads: its states may differ freely."""
    entries = (Entry("a", "one", "first"), Entry("b", "two", "second"))
    row = Row(entries, (Question("ask", "first"),), "a", "t", block=True)
    one = encode(row, lambda text: [3 + ord(letter) % 97 for letter in text])
    batch, whole = batch_of([one]), batch_of(in_view([one]))
    seen = torch.randn(1, batch.ids.shape[1], 8)
    free = torch.nn.functional.pad(
        torch.from_numpy(one.segments == 2), (0, seen.shape[1] - len(one)), value=True
    )
    moved = seen + free[None, :, None]
    assert float(states_gap(moved, seen, batch, whole)) == 0
    assert float(states_gap(moved, seen, batch, batch)) > 0
    assert float(states_gap(2 * seen, seen, batch, whole)) == pytest.approx(1, rel=1e-5)

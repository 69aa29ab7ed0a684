import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from featherdesk.agent.types import Entry, Turn
from featherdesk.compress.architecture import open_model
from featherdesk.compress.dataset import Encoded, Question, Row, encode, pack
from featherdesk.compress.forward import answer_logits, batch_of, evened, hidden
from featherdesk.compress.methods import TrainingConfig, with_adapter
from torch.nn.functional import cross_entropy


def _tokens(text: str) -> list[int]:
    return [3 + ord(character) % 97 for character in text]


def _rows() -> list[Encoded]:
    """Rows of both kinds of attention, with one question and with two."""
    made = []
    for number in range(4):
        entries = (Entry("a", f"q{number}", f"a{number}"), Entry("b", "other", f"{number * 7}"))
        one = Question(f"ask {number}", f"a{number}")
        two = Question("and then", f"{number * 7}", (Turn("user", "before"),))
        asked = (one, two) if number % 2 else (one,)
        made.append(encode(Row(entries, asked, str(number), "t", number > 1), _tokens))
    return made


def _packed() -> Encoded:
    rows = _rows()
    (packed,) = pack(rows, sum(len(row) for row in rows), random.Random(0))
    return packed


def _loss(model: Any, sequences: Sequence[Encoded], multiple: int = 1) -> torch.Tensor:
    batch = batch_of(sequences)
    places, counted = evened(batch, multiple)
    logits = answer_logits(model, batch, places)
    each = cross_entropy(logits, batch.labels.flatten()[places], reduction="none")
    return (each * counted).sum()


def _gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    learned = [p for p in model.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, learned))


def _trained(base: Path) -> Any:
    """A model with an adapter that says something."""
    torch.manual_seed(1)
    model = with_adapter(base, TrainingConfig(rank=4), torch.device("cpu"), None, 10).float()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model.get_base_model()


def test_packed_and_padded_rows_give_the_same_loss_and_gradients(family: Path) -> None:
    trained = _trained(family)
    packed, padded = _loss(trained, [_packed()]), _loss(trained, _rows())
    assert packed.item() == pytest.approx(padded.item(), rel=1e-4)
    for one, other in zip(_gradients(trained, packed), _gradients(trained, padded), strict=True):
        assert float((one - other).norm()) <= 1e-3 * float(other.norm()) + 1e-6


def test_answer_only_logits_give_the_loss_of_all_logits(family: Path) -> None:
    trained = _trained(family)
    batch = batch_of([_packed()])
    told = trained(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.bias
    ).logits
    wanted = cross_entropy(
        told[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
    )
    assert _loss(trained, [_packed()]).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_row_costs_what_a_plain_causal_pass_says(lively: Path) -> None:
    trained = _trained(lively)
    row = _rows()[0]
    labels = torch.from_numpy(row.labels)[None]
    told = trained(input_ids=torch.from_numpy(row.ids)[None], labels=labels).loss
    count = int((row.labels != -100).sum())
    assert _loss(trained, [row]).item() == pytest.approx(told.item() * count, rel=1e-4)


def test_places_that_only_fill_up_count_nothing(lively: Path) -> None:
    model = open_model(lively)
    assert len(evened(batch_of([_packed()]), 64)[0]) % 64 == 0
    filled, bare = _loss(model, [_packed()], 64), _loss(model, [_packed()])
    assert filled.item() == pytest.approx(bare.item(), rel=1e-5)


def _changed(sequence: Encoded, where: np.ndarray[Any, Any]) -> Encoded:
    fresh = Encoded(*(getattr(sequence, name).copy() for name in Encoded.__dataclass_fields__))
    fresh.ids[where] = 5
    return fresh


@torch.no_grad()  # type: ignore[untyped-decorator]
def test_packed_rows_and_block_entries_do_not_feel_each_other(lively: Path) -> None:
    model = open_model(lively)
    model.set_attn_implementation("sdpa")
    packed = _packed()
    before = hidden(model, batch_of([packed]))[0, : len(packed)]

    def moved(where: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        after = hidden(model, batch_of([_changed(packed, where)]))[0, : len(packed)]
        return np.asarray(((after - before).abs().amax(-1) > 1e-4).numpy())

    for number in range(4):
        row = packed.rows == number
        entry = row & (packed.segments == 1)
        felt = moved(entry)
        assert not felt[~row].any()
        assert felt[row & (packed.segments < 0)].any()
        other = felt[row & (packed.segments == 2)].any()
        assert other != packed.block[row].any()


@torch.no_grad()  # type: ignore[untyped-decorator]
def test_bf16_stays_finite_where_a_row_begins_late(lively: Path) -> None:
    model = open_model(lively)
    wanted = hidden(model, batch_of([_packed()]))
    model = model.to(torch.bfloat16)
    model.set_attn_implementation("sdpa")
    told = hidden(model, batch_of([_packed()])).float()
    assert bool(told.isfinite().all())
    assert float((told - wanted).norm()) < 0.05 * float(wanted.norm())

import random
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.errors import InputError
from featherdesk.agent.types import Entry, Turn
from featherdesk.compress.dataset import Question, Row, encode, load, mask, pack, save, split


def _row(*, block: bool = False, group: str = "a") -> Row:
    return Row(
        (Entry("a", "qa", "aa"), Entry("b", "qb", "bb")),
        (Question("first", "one"), Question("second", "two", (Turn("user", "before"),))),
        group,
        "test",
        block,
    )


def _tokens(text: str) -> list[int]:
    return [ord(c) % 97 for c in text]


def test_the_loss_is_taken_on_the_answers_only() -> None:
    encoded = encode(_row(), _tokens)
    learned = encoded.ids[encoded.labels != -100].tolist()
    assert learned == _tokens("one<|im_end|>") + _tokens("two<|im_end|>")


def test_every_question_starts_right_after_the_context() -> None:
    encoded = encode(_row(), _tokens)
    context = int((encoded.segments >= 0).sum())
    for number in (-1, -2):
        assert encoded.positions[encoded.segments == number][0] == context


def test_questions_do_not_see_each_other() -> None:
    encoded = encode(_row(), _tokens)
    seen = mask(encoded)
    first, second = encoded.segments == -1, encoded.segments == -2
    assert not seen[np.ix_(second, first)].any()
    assert seen[np.ix_(second, encoded.segments >= 0)].all()


def test_block_entries_see_only_themselves() -> None:
    for block in (False, True):
        encoded = encode(_row(block=block), _tokens)
        seen = mask(encoded)
        between = seen[np.ix_(encoded.segments == 2, encoded.segments == 1)]
        assert between.any() != block


def test_packed_rows_do_not_see_each_other() -> None:
    one = encode(_row(), _tokens)
    packed = pack([one, one], 2 * len(one), random.Random(0))
    assert len(packed) == 1
    seen = mask(packed[0])
    assert not seen[len(one) :, : len(one)].any()
    assert (seen[: len(one), : len(one)] == mask(one)).all()


def test_rows_that_are_too_long_are_dropped() -> None:
    assert pack([encode(_row(), _tokens)], 10, random.Random(0)) == []


def test_the_split_keeps_an_entrys_rows_together() -> None:
    rows = [_row(group=str(n % 10)) for n in range(50)]
    training, validation = split(rows, 0.2, 1)
    assert {r.group for r in training}.isdisjoint(r.group for r in validation)
    assert len({r.group for r in validation}) == 2


def test_rows_read_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert save([_row(block=True)], path) == 1
    again = next(iter(load(path)))
    assert again.questions == _row().questions
    assert again.block


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    save([_row()], path)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        list(load(path))


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    save([_row()], path)
    path.write_bytes(path.read_bytes() + '{"group": "caf\xe9"}\n'.encode("latin-1"))
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not a training row \(.*utf-8"):
        list(load(path))

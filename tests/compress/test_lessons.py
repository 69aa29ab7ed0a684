from collections.abc import Iterable
from pathlib import Path

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.types import Entry
from featherdesk.compress.dataset import Encoded, Question, Row
from featherdesk.compress.lessons import lessons_of
from featherdesk.compress.material import Material
from featherdesk.compress.model import load_tokenizer
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return load_tokenizer(tiny)


def _rows(count: int, words: int = 1) -> tuple[Row, ...]:
    return tuple(
        Row((Entry("a", "q", "a " * words),), (Question(f"ask {n}", "a"),), str(n), "t")
        for n in range(count)
    )


def _read(sequences: Iterable[Encoded]) -> set[bytes]:
    return {one.ids.tobytes() for one in sequences}


@pytest.mark.parametrize("count", [5, 19, 20, 60])
def test_texts_that_judge_are_not_learned(count: int, tokenizer: Tokenizer) -> None:
    texts = tuple(f"Parcel {n} takes {n} days." for n in range(count))
    told = lessons_of(Material((), (), (*texts, texts[0])), tokenizer, 7, 48)
    learned = _read([*told.rows, *told.texts])
    assert told.held
    assert told.known
    assert not learned & _read([*told.held, *told.known])
    used = {tokenizer.decode(one.ids) for one in (*told.rows, *told.held, *told.known)}
    assert used >= set(texts)
    assert len(told.rows) >= count * 0.7


def test_rows_that_judge_are_not_learned(tokenizer: Tokenizer) -> None:
    told = lessons_of(Material(_rows(40), ()), tokenizer, 7, 48)
    assert (len(told.rows), len(told.held)) == (36, 4)
    assert not _read(told.rows) & _read(told.held)
    assert len(lessons_of(Material(_rows(40), ()), tokenizer, 7, 3).held) == 3
    given = lessons_of(Material(_rows(40)[8:], _rows(8)), tokenizer, 7, 48)
    assert (len(given.rows), len(given.held)) == (32, 8)
    assert given.texts


def test_a_single_row_is_learned_and_judges(tokenizer: Tokenizer) -> None:
    told = lessons_of(Material(_rows(1), ()), tokenizer, 7, 48)
    assert len(told.rows) == len(told.held) == 1


@pytest.mark.parametrize("held", [(), _rows(1), _rows(1, 400)])
def test_rows_that_are_all_too_long_are_said_to_be(
    held: tuple[Row, ...], tokenizer: Tokenizer
) -> None:
    with pytest.raises(FeatherdeskError, match="no row has at most 448 tokens"):
        lessons_of(Material(_rows(3, 400), held), tokenizer, 7, 48)
    told = lessons_of(Material(_rows(3, 400), held, ("A text to read.",)), tokenizer, 7, 48)
    assert len(told.rows) == 1

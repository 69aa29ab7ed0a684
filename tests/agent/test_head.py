from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.encoder import Vectors
from featherdesk.agent.errors import ArtifactError
from featherdesk.agent.head import MIN_WORDINGS, ClassHead, HeadScores, out_of_fold
from numpy.typing import NDArray


def _clouds(
    entries: int, wordings: int, seed: int = 0
) -> tuple[Vectors, NDArray[np.int64], Vectors]:
    """Unit vectors around one centre an entry, and strange ones around none."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(entries, 24))
    owner = np.repeat(np.arange(entries), wordings)
    x = centres[owner] + 0.3 * rng.normal(size=(len(owner), 24))
    rest = rng.normal(size=(30, 24))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, rest)]
    return unit[0].astype(np.float32), owner, unit[1].astype(np.float32)


def test_a_question_near_an_entrys_wordings_is_that_entrys() -> None:
    vectors, owner, rest = _clouds(6, 8)
    head = ClassHead.fit(vectors, owner, rest)
    assert head is not None
    told = [head.scores(vector) for vector in vectors]
    assert all(scores.likeliest(1) == [entry] for scores, entry in zip(told, owner, strict=True))
    own, margin = told[0].features(0)
    assert own > 0
    assert margin > 0
    assert told[0].features(1)[1] < 0


def test_probabilities_sum_to_one() -> None:
    vectors, owner, rest = _clouds(4, 6)
    head = ClassHead.fit(vectors, owner, rest)
    assert head is not None
    scores = head.scores(rest[0])
    assert np.exp([*scores.of_entry.values(), scores.rest]).sum() == pytest.approx(1.0)


def test_entries_with_few_wordings_belong_to_the_rest() -> None:
    vectors, owner, rest = _clouds(4, 8)
    few = np.concatenate([np.flatnonzero(owner != 3), np.flatnonzero(owner == 3)[:2]])
    head = ClassHead.fit(vectors[few], owner[few], rest)
    assert head is not None
    assert 3 not in head.entries
    assert head.scores(vectors[few[-1]]).features(3)[0] == 0.0


def test_too_few_wordings_make_no_head() -> None:
    vectors, owner, rest = _clouds(5, MIN_WORDINGS - 1)
    assert ClassHead.fit(vectors, owner, rest) is None
    assert out_of_fold(vectors, owner, rest, range(5)) == {}


def test_an_absent_entry_is_no_rival() -> None:
    scores = HeadScores({0: -0.1, 1: -3.0}, -4.0)
    assert scores.features(1) == (1.0, pytest.approx(-2.9))
    assert scores.features(1, absent=0) == (1.0, 1.0)


def test_an_entry_is_held_against_the_best_of_the_others() -> None:
    scores = HeadScores({0: -1.0, 1: -2.0, 2: -3.0, 3: -4.0}, -3.5)
    margins = [scores.features(entry, absent)[1] for entry, absent in ((0, 1), (1, 0), (3, 9))]
    assert margins == [2.0, 1.0, -3.0]
    assert HeadScores({0: -1.0, 1: -2.0}, -3.5).features(0, absent=1) == (2.5, 2.5)


def test_out_of_fold_scores_are_less_sure_than_those_of_a_head_that_saw_the_question() -> None:
    vectors, owner, rest = _clouds(8, 8, seed=3)
    rng = np.random.default_rng(1)
    noisy = vectors + 0.5 * rng.normal(size=vectors.shape).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    head = ClassHead.fit(noisy, owner, rest)
    told = out_of_fold(noisy, owner, rest, range(len(noisy)))
    assert head is not None
    assert set(told) == {*range(len(noisy)), *(-1 - n for n in range(len(rest)))}
    seen = np.mean([head.scores(v).of_entry[int(o)] for v, o in zip(noisy, owner, strict=True)])
    unseen = np.mean([told[n].of_entry[int(o)] for n, o in enumerate(owner)])
    assert unseen < seen


def test_a_head_reads_back_and_damage_is_refused(tmp_path: Path) -> None:
    vectors, owner, rest = _clouds(4, 6)
    head = ClassHead.fit(vectors, owner, rest)
    assert head is not None
    head.save(tmp_path / "head.npz")
    again = ClassHead.load(tmp_path / "head.npz").scores(vectors[0]).of_entry
    assert again == pytest.approx(head.scores(vectors[0]).of_entry, abs=0.05)
    (tmp_path / "head.npz").write_bytes(b"PK no")
    with pytest.raises(ArtifactError, match="is not a class head"):
        ClassHead.load(tmp_path / "head.npz")

import numpy as np
import pytest
from featherdesk.compress.noninferiority import (
    ORIGINALS,
    Loss,
    Verdict,
    decide,
    paired_loss,
    worst,
)

CLUSTERS, EACH = 300, 5


def _sample(loss: float, churn: float, seed: int) -> Loss:
    """300 originals in five wordings: both right in 90 %, `churn` points change either way, and
    `loss` points are lost on top. A change takes its original's other wordings along half the
    time."""
    rng = np.random.default_rng(seed)
    shape = (CLUSTERS, EACH)
    fate = np.broadcast_to(rng.random((CLUSTERS, 1)), shape)
    drawn = np.where(rng.random(shape) < 0.5, fate, rng.random(shape))
    right = rng.random(shape) < 0.9
    lost = drawn < (churn + loss) / 100
    won = ~lost & (drawn < (2 * churn + loss) / 100)
    parent = (lost | (right & ~won)).ravel().tolist()
    artefact = (won | (right & ~lost)).ravel().tolist()
    return paired_loss(parent, artefact, np.arange(CLUSTERS).repeat(EACH).tolist(), seed)


def _verdict(loss: Loss) -> Verdict:
    return decide(loss, bound=2.0, estimate=1.0, enough=True)


def test_an_equal_artefact_mostly_passes_and_is_hardly_ever_refused() -> None:
    verdicts = [_verdict(_sample(0.0, 1.0, seed)) for seed in range(80)]
    assert verdicts.count(Verdict.PASSED) >= 72
    assert verdicts.count(Verdict.REFUSED) <= 4


def test_a_loss_of_four_points_never_passes_and_is_mostly_refused() -> None:
    verdicts = [_verdict(_sample(4.0, 1.0, seed)) for seed in range(80)]
    assert Verdict.PASSED not in verdicts
    assert verdicts.count(Verdict.REFUSED) >= 76


def test_a_loss_at_the_margin_hardly_ever_passes() -> None:
    verdicts = [_verdict(_sample(2.0, 1.0, seed)) for seed in range(200)]
    assert verdicts.count(Verdict.PASSED) <= 16  # 5 % and its own error


def test_the_bounds_cover_the_true_loss_as_often_as_they_say() -> None:
    found = [_sample(1.5, 1.0, seed) for seed in range(200)]
    assert 0.91 <= np.mean([loss.upper >= 1.5 for loss in found]) <= 0.99
    assert 0.91 <= np.mean([loss.lower <= 1.5 for loss in found]) <= 0.99


def test_where_nothing_was_lost_a_few_questions_prove_little() -> None:
    assert paired_loss([True] * 100, [True] * 100, list(range(100))).upper == 3.0
    assert paired_loss([True] * 3000, [True] * 3000, list(range(3000))).upper == 0.1


def test_rewordings_that_fall_together_widen_the_bound() -> None:
    lost = [n < 20 for n in range(1000)]
    parent = [True] * 1000
    artefact = [not one for one in lost]
    alone = paired_loss(parent, artefact, list(range(1000)))
    together = paired_loss(parent, artefact, [n // 10 for n in range(1000)])
    assert alone.estimate == together.estimate == 2.0
    assert together.upper > alone.upper + 1
    assert (together.originals, alone.originals) == (100, 1000)


def test_lost_and_won_are_counted_and_cancel_in_the_estimate() -> None:
    loss = paired_loss([True, True, False, True], [False, True, True, True], [0, 1, 2, 3])
    assert (loss.lost, loss.won, loss.estimate) == (1, 1, 0.0)
    assert (loss.parent, loss.artefact) == (0.75, 0.75)


def test_a_gain_is_a_negative_loss_and_passes() -> None:
    loss = paired_loss([False] * 100, [True] * 100, list(range(100)))
    assert (loss.estimate, loss.upper) == (-100.0, -97.0)
    assert _verdict(loss) is Verdict.PASSED


def test_the_same_seed_gives_the_same_bounds() -> None:
    assert _sample(1.0, 1.0, 5) == _sample(1.0, 1.0, 5)


def _loss(estimate: float, lower: float, upper: float, questions: int = 1500) -> Loss:
    return Loss(questions, 300, 0.9, 0.89, estimate, lower, upper, 10, 5, 0.01)


@pytest.mark.parametrize(
    ("loss", "enough", "verdict"),
    [
        (_loss(0.5, -0.5, 1.9), True, Verdict.PASSED),
        (_loss(0.5, -0.5, 2.0), True, Verdict.UNDECIDED),
        (_loss(1.0, 0.2, 1.9), True, Verdict.REFUSED),
        (_loss(1.0, 0.0, 1.9), True, Verdict.UNDECIDED),
        (_loss(0.0, 0.0, 0.0), False, Verdict.UNDECIDED),
        (_loss(5.0, 1.0, 9.0, 100), False, Verdict.UNDECIDED),
        (_loss(5.0, 2.0, 9.0, 100), False, Verdict.REFUSED),
    ],
)
def test_the_rule_between_refused_and_undecided(loss: Loss, enough: bool, verdict: Verdict) -> None:
    assert decide(loss, bound=2.0, estimate=1.0, enough=enough) is verdict


def test_it_says_how_many_questions_would_decide() -> None:
    needed = _loss(0.5, -2.5, 3.5).needed(2.0, 1.0)
    assert needed is not None
    assert 6000 <= needed <= 6200  # twice as far as allowed: four times as many
    assert _loss(0.5, -2.5, 1.8, 200).needed(2.0, 1.0) == 1500  # fewer decide nothing
    for hopeless in (_loss(2.5, 1.0, 4.0), _loss(1.2, -0.1, 1.9), _loss(0.5, -0.5, 1.4)):
        assert hopeless.needed(2.0, 1.0) is None


def test_a_few_originals_that_differ_are_chance_whatever_the_bootstrap_says() -> None:
    """Three that lost and none that won are what a coin gives in one of eight tries."""
    parent = [True] * 100
    for lost, chance, verdict in ((3, 1 / 8, Verdict.UNDECIDED), (5, 1 / 32, Verdict.REFUSED)):
        loss = paired_loss(parent, [n >= lost for n in range(100)], list(range(100)))
        assert loss.lower > 0
        assert loss.chance == pytest.approx(chance, abs=1e-6)
        assert _verdict(loss) is verdict
    one = paired_loss([True] * 30, [False] * 30, [0] * 30)  # thirty wordings of one question
    assert (one.lower, one.chance) == (100.0, 0.5)
    assert decide(one, bound=2.0, estimate=1.0, enough=False) is Verdict.UNDECIDED
    assert paired_loss([False], [True], [0]).chance == 1.0


def test_the_worst_verdict_wins() -> None:
    assert worst([Verdict.PASSED, Verdict.UNDECIDED, Verdict.REFUSED]) is Verdict.REFUSED
    assert worst([Verdict.PASSED, Verdict.UNDECIDED]) is Verdict.UNDECIDED
    assert worst([]) is Verdict.PASSED


def test_outcomes_that_do_not_pair_are_our_mistake() -> None:
    with pytest.raises(ValueError, match="every question"):
        paired_loss([True], [True, False], [1])
    assert paired_loss([], [], []).questions == 0
    assert ORIGINALS == 50

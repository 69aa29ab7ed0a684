from dataclasses import replace

import numpy as np
import pytest
from featherdesk.agent.scoring import from_odds, log_odds
from featherdesk.compress.refusal import Asked, fit_refusal


def _asked(seed: int) -> list[Asked]:
    """Answerable questions: the router is surer and the model doubts less."""
    rng = np.random.default_rng(seed)
    right = [Asked(rng.normal(2), rng.normal(-4), True, True) for _ in range(400)]
    missed = [Asked(rng.normal(0), rng.normal(0), False, True) for _ in range(50)]
    near = [Asked(rng.normal(1), rng.normal(0), False, False) for _ in range(400)]
    return [*right, *missed, *near]


def test_the_threshold_keeps_the_wanted_share_and_refuses_most_near_misses() -> None:
    told = fit_refusal(_asked(1), 0.95)
    assert 0 < told["refusal_threshold"] < 1
    assert told["refusal_slope"] > 0
    edge, slope = log_odds(told["refusal_threshold"]), told["refusal_slope"]
    fresh = _asked(2)
    kept = [a.refusal < edge + slope * a.router for a in fresh if a.answerable and a.first]
    refused = [a.refusal >= edge + slope * a.router for a in fresh if not a.answerable]
    assert abs(np.mean(kept) - 0.95) < 0.04
    assert np.mean(refused) > 0.85
    assert abs(told["near_misses_refused"] - np.mean(refused)) < 0.06


def test_more_doubt_raises_the_threshold_by_as_much() -> None:
    asked = _asked(4)
    more = [replace(a, refusal=a.refusal + 2) for a in asked]
    before, after = fit_refusal(asked, 0.95), fit_refusal(more, 0.95)
    assert after["refusal_slope"] == pytest.approx(before["refusal_slope"], rel=0.1)
    edges = [log_odds(told["refusal_threshold"]) for told in (before, after)]
    assert edges[1] - edges[0] == pytest.approx(2, abs=0.2)


def test_a_router_that_tells_nothing_gets_no_slope() -> None:
    rng = np.random.default_rng(3)
    asked = [Asked(rng.normal(0), rng.normal(-4), True, True) for _ in range(200)]
    asked += [Asked(rng.normal(1), rng.normal(0), False, False) for _ in range(200)]
    assert fit_refusal(asked, 0.95)["refusal_slope"] == 0


@pytest.mark.parametrize("doubt", [0.0, 0.2])
@pytest.mark.parametrize("middle", [-3.0, 4.0])
def test_a_doubt_that_tells_little_leaves_a_threshold_that_still_keeps_its_share(
    doubt: float, middle: float
) -> None:
    rng = np.random.default_rng(5)
    asked = [Asked(rng.normal(middle + 2), rng.normal(-4), True, True) for _ in range(200)]
    asked += [Asked(rng.normal(middle), rng.normal(doubt - 4), False, False) for _ in range(200)]
    told = fit_refusal(asked, 0.95)
    edge, slope = log_odds(told["refusal_threshold"]), told["refusal_slope"]
    kept = [a.refusal < edge + slope * a.router for a in asked if a.answerable]
    assert abs(np.mean(kept) - 0.95) < 0.02
    assert slope < 9


def test_log_odds_turn_back_and_are_held() -> None:
    assert abs(from_odds(log_odds(0.3)) - 0.3) < 1e-9
    assert -10 < log_odds(0.0) < -9
    assert from_odds(-1e6) < 1e-300
    assert from_odds(1e6) == 1

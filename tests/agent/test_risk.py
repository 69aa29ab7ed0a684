from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.risk import Curve, draw, isotonic


def _questions(count: int, seed: int) -> list[tuple[float, bool]]:
    """Scores that are right as often as they say."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=count)
    return [(float(s), bool(rng.uniform() < s)) for s in scores]


def test_isotonic_values_rise_and_keep_the_mean() -> None:
    x = np.array([0.1, 0.2, 0.2, 0.3, 0.4])
    y = np.array([0.0, 1.0, 0.0, 0.2, 1.0])
    weight = np.ones(5)
    told = isotonic(x, y, weight)
    assert np.all(np.diff(told) >= 0)
    assert told.mean() == pytest.approx(y.mean())
    assert told[1] == told[2]


def test_a_higher_threshold_answers_less_and_errs_less() -> None:
    curve = Curve.of(_questions(800, 1), [(0.3, False)] * 40, [(0.05, False)] * 40)
    assert np.all(np.diff(curve.thresholds) > 0)
    assert np.all(np.diff(curve.coverage) <= 0)
    assert np.all(np.diff(curve.risk) <= 1e-9)


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2])
def test_the_risk_is_kept_on_questions_that_were_not_seen(risk: float) -> None:
    curve = Curve.of(_questions(4000, 1), [], [])
    threshold = curve.threshold(risk)
    assert threshold is not None
    answered = [right for score, right in _questions(20_000, 2) if score >= threshold]
    assert 1 - np.mean(answered) <= risk + 0.015


def test_a_risk_that_no_answer_keeps_has_no_threshold() -> None:
    curve = Curve.of([(0.5, True), (0.5, False)] * 20, [], [])
    assert curve.threshold(0.02) is None
    assert curve.covered(0.02) == 0.0
    assert Curve().threshold(0.1) is None


def test_the_curve_is_drawn_for_the_browser_and_as_a_picture(tmp_path: Path) -> None:
    curve = Curve.of(_questions(200, 5), [(0.2, False)] * 10, [])
    draw([("<b>Latin</b>", curve, 0.5)], tmp_path)
    page = (tmp_path / "risk-coverage.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "&lt;b&gt;" in page
    assert "http" not in page
    assert (tmp_path / "risk-coverage.png").read_bytes().startswith(b"\x89PNG")


def test_questions_asked_in_an_entrys_own_words_share_the_traffic() -> None:
    hard, easy = [(0.9, True), (0.9, False)] * 20, [(0.95, True)] * 40
    alone, both = Curve.of(hard, [], []), Curve.of(hard, [], [], easy)
    assert alone.threshold(0.02) is None
    assert both.threshold(0.02) == 0.95
    assert both.covered(0.02) == pytest.approx(0.5)


def test_a_curve_without_questions_is_said_to_be_none(tmp_path: Path) -> None:
    draw([("Latin", Curve(), 0.5)], tmp_path)
    page = (tmp_path / "risk-coverage.html").read_text(encoding="utf-8")
    assert "Too few questions to draw a curve" in page
    assert not (tmp_path / "risk-coverage.png").exists()

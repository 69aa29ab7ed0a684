import pytest
from featherdesk.serve.spreads import ratio, ratio_of_sums, spread, told


def test_a_spread_holds_median_and_extremes() -> None:
    found = spread([3.0, 1.0, 10.0])
    assert (found.median, found.low, found.high, found.of) == (3.0, 1.0, 10.0, 3)
    assert spread([]).of == 0


def test_a_ratio_is_the_median_of_the_same_questions() -> None:
    theirs = {"a": 2.0, "b": 30.0, "c": 4.0, "x": 99.0}
    found = ratio(theirs, {"a": 1.0, "b": 10.0, "c": 1.0, "y": 1.0})
    assert found is not None
    assert (found.value, found.of) == (3.0, 3)
    assert found.low == 2.0
    assert found.high == 4.0
    assert ratio({"a": 1.0}, {"b": 1.0}) is None


def test_an_interval_narrows_with_questions() -> None:
    def of(count: int) -> float:
        found = ratio(
            {str(n): 1.0 + n % 7 for n in range(count)}, dict.fromkeys(map(str, range(count)), 1.0)
        )
        assert found is not None
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert of(400) < of(20)


def test_rates_are_compared_by_their_sums() -> None:
    fast = {"a": (10.0, 1.0), "b": (2.0, 0.0)}
    slow = {"a": (5.0, 1.0), "b": (1.0, 1.0)}
    found = ratio_of_sums(fast, slow)
    assert found is not None
    assert found.value == pytest.approx(12 / 3)
    assert ratio_of_sums(fast, {}) is None
    assert ratio_of_sums(fast, {"a": (0.0, 1.0)}) is None


def test_a_ratio_says_what_it_stands_on() -> None:
    assert told(None) == "not measured"
    assert told(ratio({"a": 2.0}, {"a": 1.0})) == "2.00 (2.00 to 2.00, 1 questions)"

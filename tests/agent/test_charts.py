import re

import pytest
from featherdesk.agent.charts import Bar, Interval, Plane, axis, bars, intervals, number, svg


def _widths(drawn: str, kind: str) -> list[float]:
    found = re.findall(rf"<i class='{kind}' style='[^']*?width:([\d.]+)%", drawn)
    return [float(width) for width in found]


def test_the_longest_bar_fills_its_row() -> None:
    drawn = bars([Bar("ours", 20, "20", "result"), Bar("theirs", 80, "80", "base")])
    assert _widths(drawn, "bar") == [25.0, 100.0]
    assert "<div class='result'><span>ours</span><b>20</b>" in drawn
    assert "reach" not in drawn


def test_extremes_leave_the_bars_most_of_the_room() -> None:
    drawn = bars([Bar("steady", 10, "10", low=8, high=11), Bar("wild", 80, "80", low=40, high=900)])
    assert _widths(drawn, "bar") == [10.0, 80.0]
    assert _widths(drawn, "reach") == [3.0, 60.0]  # of 8..11 and of 40..100, cut at the edge


def test_nothing_is_drawn_of_nothing() -> None:
    assert bars([]) == "<div class='bars'></div>"
    assert _widths(bars([Bar("zero", 0, "0")]), "bar") == [0.0]


def test_intervals_stand_where_their_values_are() -> None:
    rows = [Interval("speed", 2, 1, 3, "2×", "good", 2.5), Interval("other", 1, 1, 1, "1×", "bad")]
    drawn = intervals(rows, 1, "as fast", "times as fast")
    ticks = re.findall(r"class='tick' style='left:([\d.]+)%'>([^<]+)", drawn)
    places = {name: float(left) for left, name in ticks}
    (mark, _) = re.findall(r"class='mark' style='left:([\d.]+)%", drawn)
    assert float(mark) == places["2"]
    assert places["as fast"] == places["1"]
    assert drawn.count("class='limit'") == 1
    assert "<div class='good'><span>speed</span>" in drawn
    assert "<span>times as fast</span>" in drawn


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0, 268], 0, 400),
        ([57, 99], 40, 120),
        ([-1.5, 2], -2, 3),
        ([5, 5], 4.4, 5.6),
        ([0, 0], 0, 1),
    ],
)
def test_an_axis_has_round_ends_around_its_values(
    values: list[float], low: float, high: float
) -> None:
    first, last, steps = axis(values)
    assert (first, last) == (steps[0], steps[-1])
    assert first <= min(values)
    assert last >= max(values)
    assert (first >= 0) == (min(values) >= 0)
    assert len(steps) <= 9
    assert (first, last) == (low, high)


def test_numbers_of_a_scale_are_never_in_powers() -> None:
    assert number(1_000_000) == "1,000,000"
    assert number(2.5) == "2.5"
    assert number(-2) == "−2"


def test_a_plane_places_values_between_its_ends() -> None:
    plane = Plane([0, 50, 100], [0, 10], right=20)
    left, right = plane.at(0, 0), plane.at(100, 10)
    assert plane.at(50, 5) == ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    assert right[0] == plane.width - 20
    powers = Plane([1, 10, 100], [0, 1], logarithmic=True)
    assert powers.at(10, 0)[0] == pytest.approx((powers.at(1, 0)[0] + powers.at(100, 0)[0]) / 2)


def test_numbers_that_would_lie_on_others_are_left_out() -> None:
    drawn = Plane([0, 1, 2, 100], [0, 1]).drawn("turns", "ms")
    assert [text for text in ("0", "1", "2", "100") if f"'middle'>{text}<" in drawn] == ["0", "100"]


def test_names_are_escaped() -> None:
    drawn = (
        bars([Bar("<b>", 1, "<i>")])
        + intervals([Interval("<b>", 1, 1, 1, "<i>", "good")], 0, "<b>", "<i>")
        + Plane([0, 1], [0, 1]).drawn("<b>", "<i>")
        + svg("<b>'", 10, 10, "")
    )
    assert "<b>" not in drawn.replace("<b>&lt;", "").replace("<b></b>", "")
    assert "<i>" not in drawn
    assert "aria-label='&lt;b&gt;&#x27;'" in drawn

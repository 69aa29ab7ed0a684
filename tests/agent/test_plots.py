import sys
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.charts import Bar
from featherdesk.agent.plots import GREEN, GREY, bar_chart, saved


def test_bars_are_drawn_from_above_in_their_colours(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    seen: list[Any] = []

    def into(figure: Any) -> None:
        axes = figure.add_subplot()
        bar_chart(
            axes, [Bar("ours", 2, "2 s", "result"), Bar("b", 1, "1 s")], "Speed", 0.2, named=True
        )
        seen.append(axes)

    assert saved(tmp_path / "bars.png", (3, 2), into)
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    from matplotlib.colors import to_hex

    (axes,) = seen
    assert [to_hex(one.get_facecolor()) for one in axes.patches] == [GREEN, GREY]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["2 s", "1 s"]


def test_without_matplotlib_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not saved(tmp_path / "bars.png", (3, 2), lambda figure: None)
    assert not list(tmp_path.iterdir())

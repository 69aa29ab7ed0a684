import re
import subprocess
import sys

import pytest
from featherdesk.agent.page import card, command, figure, head, pill, safe, signed, table, wrapped


def _page(*sections: tuple[str, str, str], created: str = "today", style: str = "") -> str:
    return wrapped("a < b", head("Report", "<bot>", "Well."), sections, created, "a.json", style)


def test_sections_have_a_heading_and_a_link() -> None:
    told = _page(("one", "First & best", "<p>1</p>"), ("two", "Empty", ""), ("key", "", "<p>2</p>"))
    assert "<section id='one'><h2>First &amp; best</h2><p>1</p></section>" in told
    assert "<section id='key'><p>2</p></section>" in told
    assert re.findall(r"<a href='#(\w+)'>([^<]+)", told) == [("one", "First &amp; best")]
    assert "Empty" not in told


def test_a_page_without_headings_has_no_links_and_one_without_a_day_names_none() -> None:
    told = _page(("key", "", "<p>2</p>"), created="")
    assert "<nav>" not in told
    assert "<footer>Featherdesk. The same" in told
    assert "<footer>Featherdesk, today. The same" in _page()


def test_a_page_opens_from_disk_in_light_and_dark() -> None:
    told = _page(style=".own { color: red; }")
    assert "prefers-color-scheme: dark" in told
    assert "max-width: 34rem" in told
    assert told.index(".own { color: red; }") > told.index(".card")
    assert not re.search(r"<(?:script|link|img)\b|@import|url\(|https?:", told)


def test_text_is_escaped() -> None:
    told = _page() + pill("passed", "<i>") + card("<i>", "<i>", "<i>", []) + command("<i>")
    told += figure("", "<i>", "<i>", unit="<i>")
    assert "<title>a &lt; b</title>" in told
    assert "<h1>&lt;bot&gt;</h1>" in told
    assert "<i>" not in told
    assert safe("'\"&") == "&#x27;&quot;&amp;"


def test_a_figure_without_title_and_command_is_its_body() -> None:
    assert figure("<p>1</p>", kind="wide") == "<figure class='wide'><p>1</p></figure>"
    told = figure("<p>1</p>", "run it", "Speed", unit="ms")
    assert "<h3>Speed <small>ms</small></h3><p>1</p><figcaption><code>run it</code>" in told


def test_a_table_scrolls_in_its_box() -> None:
    told = table("<th>a</th>", "<tr><td>1</td></tr>")
    assert told.startswith("<div class='card scroll'><table")
    assert "<thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody>" in told


@pytest.mark.parametrize(
    ("value", "digits", "told"),
    [(0.5, 1, "+0.5"), (-2, 1, "−2.0"), (-0.04, 1, "±0"), (0, 0, "±0"), (1234.5, 0, "+1234")],
)
def test_changes_carry_their_sign(value: float, digits: int, told: str) -> None:
    assert signed(value, digits) == told


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, featherdesk.agent.plots, featherdesk.agent.page; "
        "print([name for name in ('matplotlib', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

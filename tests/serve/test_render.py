import pytest
from featherdesk.serve.render import safe_markdown
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt


def _html(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).render(safe_markdown(text)))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](https://evil.example/a.png)",
        "<img src=x onerror=alert(1)>",
        "<a href='javascript:alert(1)'>x</a>",
        "# big\n---\n* a",
        "`<b>`",
        "&lt;script&gt;",
        "javascript:alert(1)",
        "data:text/html,<b>",
    ],
)
def test_nothing_but_text_comes_out(text: str) -> None:
    html = _html(text)
    for bad in ("<script", "<img", "<h1", "<hr", "<li", "<b>", 'href="javascript', 'href="data'):
        assert bad not in html


def test_web_and_mail_addresses_are_links() -> None:
    html = _html("See https://larkfell.example/help_(uk)?a=1&b=2, or mail help@larkfell.example.")
    assert 'href="https://larkfell.example/help_%28uk%29?a=1&amp;b=2"' in html
    assert 'href="mailto:help@larkfell.example"' in html


@given(st.text(max_size=80))
def test_any_text_renders_without_tags_but_paragraphs_links_and_breaks(text: str) -> None:
    import re

    tags = set(re.findall(r"<(/?\w+)", _html(text)))
    assert tags <= {"p", "/p", "a", "/a", "br", "pre", "/pre", "code", "/code"}

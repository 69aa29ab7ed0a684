"""The receipt as a customer sees it: plain words, figures, and nothing of anybody's as markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from featherdesk.agent.receipt import Cited, Considered, Receipt
from featherdesk.serve.receipts import receipt_html
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

ANSWERED = Receipt(
    "answer",
    0.93,
    0.14,
    "model",
    considered=(
        Considered("delivery", 0.93, passed=True, matched="How long does delivery take?"),
        Considered("worn", 0.05, passed=False, matched="Can I return worn boots?"),
    ),
    cited=(Cited("delivery", "How long?", ("It takes 3 to 5 days and costs £4.95.",)),),
    base="smollm2-135m-instruct",
    adapter="sample",
    bits="int4",
    ms={"route": 38.2, "first_token": 120.0, "generate": 350.4, "check": 3.9, "total": 412.0},
)


class _Seen(HTMLParser):
    """Tags, attributes and text of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_an_answer_shows_words_scores_model_and_time() -> None:
    text = _Seen(receipt_html(ANSWERED, "en")).text
    for words in (
        "Why this answer?",
        "A small language model wrote this",
        "Match 93\N{NO-BREAK SPACE}% · needed 14\N{NO-BREAK SPACE}%",
        "It takes 3 to 5 days and costs £4.95.",
        "How long does delivery take?",
        "source",
        "none had to act",
        "smollm2-135m-instruct + sample, int4",
        "search 38 ms · first word 120 ms · writing 350 ms · checking 4 ms · in all 412 ms",
    ):
        assert words in text


def test_it_speaks_chinese() -> None:
    text = _Seen(receipt_html(ANSWERED, "zh")).text
    assert "为什么这样回答？" in text
    assert "匹配度 93\N{NO-BREAK SPACE}%" in text
    assert "Match" not in text


@pytest.mark.parametrize(
    ("route", "author", "reason", "words"),
    [
        ("verbatim", "curated", "", "our own text, word for word."),
        ("answer", "fallback", "", "was not sent"),
        ("clarify", "curated", "", "Several of our answers"),
        ("handoff", "curated", "out_of_scope", "nothing was made up"),
        ("handoff", "curated", "policy", "may not answer"),
        ("clarify", "model", "not_in_entries", "do not hold what you asked"),
        ("skill", "skill", "", "looked up for you"),
    ],
)
def test_every_way_has_its_own_words(route: str, author: str, reason: str, words: str) -> None:
    receipt = replace(ANSWERED, route=route, author=author, reason=reason)
    assert words in receipt_html(receipt, "en")


def test_what_explains_itself_has_none() -> None:
    assert receipt_html(replace(ANSWERED, route="smalltalk"), "en") == ""
    assert receipt_html(replace(ANSWERED, route="handoff", reason="requested"), "en") == ""


def test_sources_are_told_from_what_was_only_read() -> None:
    read = Considered("worn", 0.5, passed=True, matched="Can I return worn boots?")
    html = receipt_html(replace(ANSWERED, considered=(ANSWERED.considered[0], read)), "en")
    assert "How long does delivery take? <b>source</b>" in html
    assert "Can I return worn boots? <b>read</b>" in html


TAGS = {"details", "summary", "div", "p", "h6", "blockquote", "ul", "li", "span", "i", "b"}
TAGS |= {"small", "dl", "dt", "dd"}


def _hostile(text: str) -> Receipt:
    return replace(
        ANSWERED,
        considered=(Considered(text, 2.0, passed=True, matched=text),),
        cited=(Cited(text, text, (text,)),),
        guards=(text,),
        rejected=(text,),
        base=text,
        ms={text: 1.0},
    )


@given(st.text(max_size=60))
def test_whatever_stands_in_it_stays_text(text: str) -> None:
    html = receipt_html(_hostile(text), "en")
    assert "\n" not in html
    assert "$" not in html
    shown = _Seen(html)
    assert shown.tags <= TAGS
    assert shown.attributes <= {"class", "style"}
    assert set(re.findall(r'style="([^"]*)"', html)) <= {"width:100%", "left:14%", "width:93%"}


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "![x](https://evil.example/a.png)", "a\n\n<img src=x>", "</div>"],
)
def test_markdown_leaves_it_as_it_is(text: str) -> None:
    html = receipt_html(_hostile(text), "en")
    rendered = str(MarkdownIt("commonmark", {"html": True}).render(html))
    assert rendered.strip() == html
    assert not {"script", "img"} & _Seen(rendered).tags


@pytest.mark.parametrize(("language", "words"), [("en", "earlier customer"), ("zh", "此前")])
def test_an_answer_that_was_kept_says_so(language: str, words: str) -> None:
    assert words not in _Seen(receipt_html(ANSWERED, language)).text
    assert words in _Seen(receipt_html(replace(ANSWERED, cached=True), language)).text

"""The receipt: made from a reply, the same after being stored, in words and as JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.receipt import Receipt, bit_level, quotes
from featherdesk.agent.types import (
    Author,
    Citation,
    Handoff,
    HandoffReason,
    Match,
    Reply,
    Route,
    RouteKind,
)

ANSWER = (
    "Standard delivery takes 3 to 5 working days and costs £4.95. Express delivery arrives the "
    "next day for £9.95. We do not deliver on Sundays. Parcels are sent from our store in York."
)


def _reply() -> Reply:
    matches = tuple(
        Match(name, score, matched=f"about {name}")
        for name, score in [("delivery", 0.91234567), ("worn", 0.2)]
    )
    route = Route(RouteKind.ANSWER, 0.91234567, 0.5, matches, ("delivery",))
    return Reply(
        "Express delivery arrives the next day and costs £9.95.",
        route,
        Author.FALLBACK,
        raw_text="£99, call +44 1632 960118",
        citations=(Citation("delivery", ANSWER, "How long does delivery take?"),),
        unsupported=("£99", "+44 1632 960118"),
        guards=("abuse",),
        ms={"route": 12.0, "first_token": 90.0, "generate": 300.5, "check": 1.2, "total": 320.0},
        model="sample",
        base="smollm2-135m-instruct",
        bits="int4",
    )


def test_it_holds_what_explains_the_reply() -> None:
    receipt = Receipt.of(_reply())
    assert (receipt.route, receipt.author) == ("answer", "fallback")
    assert (receipt.score, receipt.threshold) == (0.9123, 0.5)
    assert [(c.entry_id, c.passed, c.matched) for c in receipt.considered] == [
        ("delivery", True, "about delivery"),
        ("worn", False, "about worn"),
    ]
    assert receipt.cited[0].words == ("Express delivery arrives the next day for £9.95.",)
    assert receipt.guards == ("abuse",)
    assert receipt.model == "smollm2-135m-instruct + sample, int4"
    assert list(receipt.ms) == ["route", "first_token", "generate", "check", "total"]


def test_it_keeps_nothing_of_the_customer() -> None:
    receipt = Receipt.of(_reply())
    assert receipt.rejected == ("£99", "[phone]")
    assert "960118" not in json.dumps(receipt.to_json())


def test_it_reads_back_and_older_ones_are_none() -> None:
    receipt = Receipt.of(_reply())
    assert Receipt.from_json(json.dumps(receipt.to_json())) == receipt
    for old in ("", "null", "[]", "3", '{"ms": {}, "citations": ["a"], "threshold": 0.5}', "{"):
        assert Receipt.from_json(old) is None


def test_in_words_it_names_every_part() -> None:
    told = Receipt.of(_reply()).to_text()
    for words in (
        "Route: answer. Score 0.91 against a threshold of 0.50.",
        "0.91  delivery (passed; nearest: 'about delivery')",
        "0.20  worn (not passed",
        "“Express delivery arrives the next day for £9.95.”",
        "rejected (smollm2-135m-instruct + sample, int4)",
        "Rejected for: £99; [phone].",
        "Guards that fired: abuse.",
        "search 12 ms, first word 90 ms, writing 300 ms, checking 1 ms, in all 320 ms",
    ):
        assert words in told


def test_a_hand_off_tells_its_reason_and_offers_are_not_sources() -> None:
    route = Route(RouteKind.CLARIFY, 0.3, 0.5, (Match("a", 0.3),))
    offer = Handoff(HandoffReason.FAILED_TWICE)
    cited = (Citation("a", "An answer."),)
    receipt = Receipt.of(Reply("Which?", route, Author.CURATED, citations=cited, handoff=offer))
    assert (receipt.reason, receipt.cited, receipt.model) == ("failed_twice", (), "")
    assert "two questions in a row" in receipt.to_text()
    assert "Sources: none." in receipt.to_text()


@pytest.mark.parametrize(
    ("reply", "source", "words"),
    [
        ("It costs £4.95.", ANSWER, (ANSWER.split(". ")[0] + ".",)),
        ("We don't deliver on Sundays.", ANSWER, ("We do not deliver on Sundays.",)),
        (
            "Standard delivery costs £4.95. Express is £9.95.",
            ANSWER,
            (ANSWER.split(". ")[0] + ".", "Express delivery arrives the next day for £9.95."),
        ),
        ("Bananas are yellow.", ANSWER, ()),
        ("", ANSWER, ()),
        ("It costs £4.95.", "", ()),
        ("三十天内可以退货。", "我们三十天内接受退货。周日不送货。", ("我们三十天内接受退货。",)),
    ],
)
def test_quotes_are_the_fewest_sentences(reply: str, source: str, words: tuple[str, ...]) -> None:
    assert quotes(reply, Citation("a", source)) == words


def test_a_sentence_of_two_facts_quotes_both_places() -> None:
    both = quotes("It takes 3 to 5 days, or one day for £9.95.", Citation("a", ANSWER))
    assert len(both) == 2


def test_the_bit_level_is_read_from_the_graph(tmp_path: Path) -> None:
    assert bit_level(tmp_path) == ""
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"..\n\x04bits\x18\x04\xa0\x01\x02..\n\x04bits\x18\x08..")
    assert bit_level(tmp_path) == "int4+int8"
    other = tmp_path / "plain"
    other.mkdir()
    (other / "model.onnx").write_bytes(b"MatMul")
    assert bit_level(other) == "float"


def test_an_answer_that_was_kept_says_so_and_is_kept_so() -> None:
    receipt = Receipt.of(replace(_reply(), cached=True))
    assert "int4), to an earlier customer." in receipt.to_text()
    assert Receipt.from_json(json.dumps(receipt.to_json())) == receipt
    older = {name: told for name, told in receipt.to_json().items() if name != "cached"}
    assert Receipt.from_json(json.dumps(older)) == replace(receipt, cached=False)

from dataclasses import replace

import pytest
from featherdesk.serve.bench_page import page
from featherdesk.serve.bench_report import table
from featherdesk.serve.crowd import Crowd, queue
from featherdesk.serve.machine import Machine
from featherdesk.serve.outcome import Compared, Crowds, Outcome, Start
from featherdesk.serve.race import Figures
from featherdesk.serve.spreads import Ratio, Spread, spread

MACHINE = Machine("a processor", ("avx2",), 2, 8000.0, 0.1, "Linux", "3.11", {})
RUN = Outcome("b", "featherdesk bench b", "", "cpu", 2, MACHINE, 100, 100, {})
HEARD = Crowd(8, 24, 24, 4.0, 6.0, 1000.0, 2000.0, 900.0, 1900.0, errors={})


def _ratio(value: float, low: float, high: float, of: int = 100) -> Outcome:
    told = Compared("whole", "served", "llama.cpp", "x", Ratio(value, low, high, of), None)
    return replace(RUN, ratios=(told,))


@pytest.mark.parametrize(
    ("value", "low", "high", "of", "verdict"),
    [
        (3.4, 3.1, 3.6, 100, "met"),
        (3.1, 2.8, 3.4, 100, "within noise"),
        (2.0, 1.8, 2.2, 100, "missed"),
        (3.4, 3.1, 3.6, 99, "too few questions (99 of 100)"),
    ],
)
def test_a_bar_is_met_when_the_whole_interval_is(
    value: float, low: float, high: float, of: int, verdict: str
) -> None:
    (bar,) = _ratio(value, low, high, of).bars
    assert bar.verdict == verdict
    assert "3 times" in bar.bar


def test_only_bars_that_were_measured_are_judged() -> None:
    assert RUN.bars == ()
    other = Compared("whole", "runtime, neither", "llama.cpp", "x", Ratio(9, 9, 9, 100), None)
    genai = replace(other, ours="served", group="onnxruntime-genai")
    assert replace(RUN, ratios=(other, genai)).bars == ()


def test_a_first_token_has_a_bar_where_entries_were_stored() -> None:
    first = Compared("first", "served", "llama.cpp", "x", Ratio(7, 6.5, 7.5, 100), None)
    (bar,) = replace(RUN, ratios=(first,)).bars
    assert bar.verdict == "not judged"
    none = Spread(0, 0, 0, 0)
    many = dict.fromkeys(("first_ms", "whole_ms", "closed_ms", "routing_ms"), none)
    more = dict.fromkeys(("prefill", "decode", "characters", "tokens", "prompt", "joules"), none)
    rest = dict.fromkeys(("tokens_a_step", "fed", "resident_mb", "peak_mb", "open_s"), 0.0)
    rates = {"decode_all": 0.0, "decode_behind": 0.0, "equal": None, "hits": 0.9, "stored": 0.8}
    stored = Figures(name="runtime", kind="ours", about="", **many, **more, **rest, **rates)  # type: ignore[arg-type]
    (bar,) = replace(RUN, ratios=(first,), sides=(stored,)).bars
    assert (bar.verdict, bar.bar) == ("met", "at least 6 times as fast")


def test_a_first_token_is_judged_where_all_entries_were_stored() -> None:
    every, stored, read = (Ratio(x, x, x, 100) for x in (5.0, 7.0, 2.0))
    first = Compared("first", "runtime", "llama.cpp", "x", every, None, stored, read)
    (bar,) = replace(RUN, ratios=(first,)).bars
    assert bar.name == "first token (entries stored), runtime against llama.cpp"
    assert bar.reached.startswith("7.00")
    told = table(replace(RUN, ratios=(first,)))
    assert "where all entries were stored: 7.00" in told
    assert "where entries were read: 2.00" in told
    drawn = page(replace(RUN, ratios=(first,)))
    assert "Drawn are the questions whose entries were all stored." in drawn
    assert "Where entries were read: runtime / llama.cpp 2.00" in drawn
    assert "Where all questions count: runtime / llama.cpp 5.00" in drawn


def test_the_whole_answer_of_a_compressed_bot_has_a_higher_bar() -> None:
    (bar,) = replace(_ratio(3.4, 3.1, 3.6), compressed=True).bars
    assert (bar.verdict, bar.bar) == ("missed", "at least 5 times as fast")


def test_start_and_memory_have_bars() -> None:
    none = Spread(0, 0, 0, 0)
    start = Start(none, none, none, spread([1.0, 2.0]), spread([500.0]))
    bars = replace(RUN, start=start).bars
    assert [(bar.name, bar.verdict) for bar in bars] == [
        ("API ready", "met"),
        ("at rest, API alone", "missed"),
    ]
    start = replace(start, ready_s=spread([2.0, 9.0, 2.5]), page_s=spread([7.0]))
    verdicts = {bar.name: bar.verdict for bar in replace(RUN, start=start).bars}
    assert verdicts["API ready"] == verdicts["page ready"] == "met"


def test_users_have_bars() -> None:
    peer = queue(8, [0.5] * 24)
    crowds = Crowds(
        8, (HEARD,), (peer,), "llama.cpp", spread([6.0]), spread([3.0]), 30.0, 5.0, 6.67, 0.9
    )
    verdicts = {bar.name: bar.verdict for bar in replace(RUN, crowds=crowds).bars}
    assert set(verdicts.values()) == {"met"}
    assert len(verdicts) == 4
    bad = replace(HEARD, errors={"500": 1}, p95_ms=3100.0, flat=False)
    crowds = replace(crowds, ours=(bad,), times=spread([2.9, 3.1]), share=0.7)
    found = [bar.verdict for bar in replace(RUN, crowds=crowds).bars]
    assert found == ["missed", "within noise", "missed", "missed", "missed"]

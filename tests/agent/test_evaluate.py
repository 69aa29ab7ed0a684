"""Test files: what is wrong in a row is said with its line, before anything is asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import InputError
from featherdesk.agent.evaluate import Scored, compared, facts_present, load_cases, score

GOOD = {"id": "a", "question": "how long?", "entry_ids": ["delivery"]}


def _file(folder: Path, **told: Any) -> Path:
    path = folder / "test.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **told}) + "\n")
    return path


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"facts": [1]}, r'facts must be a list of facts.*\[\["30 days"'),
        ({"facts": ["30 days"]}, "facts must be a list of facts"),
        ({"facts": [[30]]}, "facts must be a list of facts"),
        ({"facts": [[]]}, "facts must be a list of facts"),
        ({"facts": [[" "]]}, "facts must be a list of facts"),
        ({"facts": {"a": "b"}}, "facts must be a list of facts"),
        ({"entry_ids": [["delivery"]]}, "entry_ids must be a list of ids"),
        ({"entry_ids": "delivery"}, "entry_ids must be a list of ids"),
        ({"entry_ids": None}, "entry_ids must be a list of ids"),
        ({"entry_ids": ["delivry"]}, "the bot has no entry 'delivry'"),
        ({"entry_ids": []}, "needs entry_ids, or out_of_scope"),
        ({"out_of_scope": "false"}, "out_of_scope must be true or false"),
        ({"history": 5}, "history must be"),
        ({"history": {"role": "user"}}, "history must be"),
        ({"question": None}, 'needs an object with a "question" text'),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(
    tmp_path: Path, told: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"test\.jsonl:2: {message}"):
        load_cases(_file(tmp_path, **told), {"delivery"})


def test_what_a_row_may_leave_out(tmp_path: Path) -> None:
    empty = _file(tmp_path, facts=None, history=None, out_of_scope=None, kind="plain")
    assert [case.facts for case in load_cases(empty, {"delivery"})] == [(), ()]
    outside = _file(tmp_path, entry_ids=[], facts=[], out_of_scope=True)
    assert load_cases(outside, {"delivery"})[1].out_of_scope


def test_a_fact_is_any_of_its_wordings(tmp_path: Path) -> None:
    path = _file(tmp_path, facts=[["30 days", "a month"], ["£4.95"]])
    facts = load_cases(path, {"delivery"})[1].facts
    assert facts == (("30 days", "a month"), ("£4.95",))
    assert facts_present("It takes a month and costs £4.95.", facts)
    assert not facts_present("It takes 3 days and costs £4.95.", facts)


def _scored(agent: Agent, path: Path) -> list[Scored]:
    cases = load_cases(path, ["delivery", "worn", "pay", "hours", "invoice"])
    return [score(agent, one, agent.reply(one.question, one.history)) for one in cases]


def test_two_devices_are_compared_reply_by_reply(
    agent_of: Callable[..., Agent], tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "question": "how long does delivery take", "facts": [["3 to 5"]]},
        {"id": "b", "question": "delivery time", "facts": [["3 to 5"]]},
        {"id": "c", "question": "who won the world cup in 1998", "out_of_scope": True},
    ]
    path = tmp_path / "test.jsonl"
    inside = {"entry_ids": ["delivery"]}
    path.write_text("".join(json.dumps(inside | row) + "\n" for row in rows))
    right = _scored(agent_of("Standard delivery takes 3 to 5 working days."), path)
    worse = _scored(agent_of("Standard delivery takes 9 working days."), path)
    same = compared(right, right)
    assert same["differ"] == []
    assert {same[f"equal_{name}"]["value"] for name in ("route", "sent", "raw")} == {1.0}
    assert same["equal_raw"]["of"] == 2  # nothing is written where no model is asked
    told = compared(right, worse)
    assert told["differ"] == ["a", "b"]
    assert told["equal_route"]["value"] == 1.0
    assert told["equal_sent"]["value"] == pytest.approx(1 / 3, abs=0.001)
    assert told["equal_raw"]["value"] == 0.0
    assert (told["correct_raw"]["value"], told["correct_raw_against"]["value"]) == (1.0, 0.0)
    sent = told["correct_sent"]["value"], told["correct_sent_against"]["value"]
    assert sent == (1.0, 1.0)  # the curated text took the place of what was wrong

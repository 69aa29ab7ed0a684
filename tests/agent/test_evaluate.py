"""Test files: what is wrong in a row is said with its line, before anything is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.errors import InputError
from featherdesk.agent.evaluate import facts_present, load_cases

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

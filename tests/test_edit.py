"""Edited facts reach the customer without training: the model reads, it does not remember."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.engine import Agent
from featherdesk.agent.types import RouteKind

SAMPLE = Path(__file__).resolve().parents[1] / "models" / "sample"
NUMBER = re.compile(r"(?<![\d:.,])\d{1,3}(?![\d:.,]\d|\d|:)")


def _changed(answer: str, place: int) -> tuple[str, str, str] | None:
    """The answer with one number or one negation turned, the new words and the old."""
    if place % 5 == 4 and " cannot " in answer:
        return answer.replace(" cannot ", " can ", 1), " can ", " cannot "
    found = NUMBER.search(answer)
    if found is None:
        return None
    new = str(int(found.group()) + 7)
    if re.search(rf"(?<!\d){new}(?!\d)", answer):
        return None
    return answer[: found.start()] + new + answer[found.end() :], new, found.group()


def _holds(text: str, fact: str) -> bool:
    return re.search(rf"(?<!\d){re.escape(fact)}(?!\d)", f" {text} ") is not None


@pytest.mark.end_to_end
def test_sixty_edited_facts_are_answered_with_the_new_fact(
    tmp_path: Path, cli: Any, sample_bot: Path
) -> None:
    lines = (SAMPLE / "faq_en.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    edits: dict[str, tuple[str, str]] = {}
    for place, row in enumerate(rows):
        change = _changed(row["answer"], place) if len(edits) < 60 else None
        if change is not None:
            row["answer"], new, old = change
            edits[row["id"]] = (new, old)
    assert len(edits) == 60
    (tmp_path / "faq_en.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "bot.toml").write_text('[bot]\nname = "edited"\nfaq = ["faq_en.jsonl"]\n')
    assert cli("build", tmp_path / "bot.toml", "--quick").returncode == 0
    agent = Agent.load(tmp_path / "bot")
    by_id = {row["id"]: row for row in rows}
    carried, kept_old, asked = 0, 0, 0
    for identity, (new, old) in edits.items():
        reply = agent.reply(by_id[identity]["question"])
        if reply.route.kind is not RouteKind.ANSWER or reply.entry_id != identity:
            continue
        asked += 1
        carried += _holds(reply.raw_text, new)
        kept_old += _holds(reply.raw_text, old) and not _holds(by_id[identity]["answer"], old)
    assert asked >= 50
    assert carried / asked >= 0.95
    assert kept_old == 0

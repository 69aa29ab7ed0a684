"""What the page suggests to ask."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from featherdesk.agent.stages import BotConfig
from featherdesk.agent.types import Entry


def test_suggestions_are_entries_never_a_skills_examples(tmp_path: Path) -> None:
    from featherdesk.serve.chat import _Page

    entries = (
        Entry("skill:hours", "Are you open now?", "Tells when we are open.", category="x"),
        Entry("pay", "How can I pay?", "By card.", category="y"),
    )
    index = SimpleNamespace(entries=entries)
    agent: Any = SimpleNamespace(config=BotConfig(), router=SimpleNamespace(index=index))
    page = _Page(SimpleNamespace(agent=agent))  # type: ignore[arg-type]
    assert page._suggested("en") == ["How can I pay?"]
    assert page._suggested("zh") == ["How can I pay?"]

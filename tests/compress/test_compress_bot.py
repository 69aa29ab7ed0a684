"""`featherdesk compress BOT` to its end: steps, thresholds, both bots asked over HTTP, the report."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from featherdesk.agent.artifacts import Manifest, verify
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import GateError
from featherdesk.compress import proof
from featherdesk.compress.compress_command import compress
from featherdesk.compress.compression import work_folder
from featherdesk.serve.live import check_gate

RECIPE = """
[[steps]]
use = "export"
precision = "int8"
"""
QUESTIONS = (
    ("how long does delivery take", "delivery", "3 days"),
    ("what does delivery cost", "delivery", "£4.95"),
    ("may I return worn boots", "worn", "cannot"),
    ("which cards do you accept", "pay", "Visa"),
    ("opening time of the York store", "hours", "9:30"),
)


@pytest.fixture(scope="module")
def ran(shop_bot: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The command, with fewer rewordings than a verdict needs."""
    folder = tmp_path_factory.mktemp("compressed")
    (folder / "recipe.toml").write_text(RECIPE)
    rows = [
        {"id": f"q{n}", "question": asked, "entry_ids": [entry], "facts": [[fact]], "kind": "plain"}
        for n, (asked, entry, fact) in enumerate(QUESTIONS)
    ]
    rows.append({"id": "moon", "question": "do you sell flights to the moon", "out_of_scope": True})
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = ("--recipe", folder / "recipe.toml", "--out", folder / "small", "--questions", 4)
    command = [shop_bot, *given, "--data", folder / "test.jsonl", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERDESK_HOME", str(folder / "home"))  # replies are kept there
        patch.setattr(proof, "QUESTIONS", 24)
        patch.setattr(proof, "PAIRS", 4)
        return CliRunner().invoke(compress, [str(part) for part in command]), folder


def test_a_verdict_that_few_questions_cannot_carry_is_undecided(ran: tuple[Result, Path]) -> None:
    done, folder = ran
    assert isinstance(done.exception, GateError), done.output
    assert done.exception.exit_code == 3
    told = json.loads(done.stdout)
    assert told["gate"] == "undecided"
    made = Path(told["folder"])
    assert made == folder / "small"
    assert work_folder(made).is_dir(), "with more questions the steps need not run again"


def test_the_bot_that_was_made_is_whole_and_is_served(
    ran: tuple[Result, Path], shop_bot: Path
) -> None:
    made = ran[1] / "small"
    manifest = Manifest.load(made)
    verify(made, manifest)
    assert manifest.gate is not None
    assert manifest.gate["verdict"] == "undecided"
    assert [step["name"] for step in manifest.steps if "name" in step] == ["export"]
    assert any("recalibrated" in step for step in manifest.steps)
    check_gate(made, manifest)  # undecided is not refused: it is served
    agent = Agent.load(made)
    assert agent.entry("pay").answer == Agent.load(shop_bot).entry("pay").answer


def test_the_report_tells_what_the_gate_asked_and_what_was_measured(
    ran: tuple[Result, Path],
) -> None:
    report = ran[1] / "small" / "report"
    told = json.loads((report / "report.json").read_text())
    asked = told["gate"]["questions"]
    assert asked == 24, told["gate"]
    result = told["stages"][-1]["measured"]
    assert 0 < result["size_mb"] < told["fp32_mb"]
    assert told["command"] == result["command"]
    assert "report.html" in {path.name for path in report.iterdir()}
    gate = json.loads((report / "gate.json").read_text())
    assert len(gate["rows"]) == 24
    assert len(told["changes"]) <= 10
    assert {change["id"] for change in told["changes"]} <= {row[0]["id"] for row in gate["rows"]}
    assert "http" not in (report / "report.html").read_text().replace("http://www.w3.org", "")

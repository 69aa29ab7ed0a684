"""The example plugin, installed as a user installs it, and the list of plugins."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.dialogue import Dialogue
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.engine import Agent
from featherdesk.agent.index import Index
from featherdesk.agent.router import Router
from featherdesk.agent.skillset import open_skills, skill_entries
from featherdesk.agent.stages import BotConfig, Skills
from featherdesk.agent.types import Author, Entry, RouteKind, Turn

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "skill_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the example plugin installed."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def _env(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site)}


def test_an_installed_skill_is_asked_and_answers_through_a_bot(
    site: Path,
    entries: list[Entry],
    encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(site))
    told = Skills(("postage",), {"postage": {"per_kg": {"UK": 2, "France": 5, "China": 9}}})
    runners = open_skills(told, tmp_path)
    index = Index.build([*entries, *skill_entries(runners, entries)], MiniLM(encoder_folder, 2))
    manifest = Manifest("b", "b", "h", "none", "p", ("en",), index.encoder.id, 5, ("en",))
    router = Router(index, calibrate(index))
    agent = Agent(router, None, BotConfig(), manifest, tmp_path, dialogue=Dialogue(runners))
    whole = agent.reply("how much is it to send a 2 kg parcel to frnace?")
    assert (whole.text, whole.author) == ("Postage to France is £10.00.", Author.SKILL)
    assert whole.route.kind is RouteKind.SKILL
    asked = agent.reply("what is the postage for 3 kg?")
    assert asked.text == "To which country: UK, France or China?"
    history = [Turn("user", "what is the postage for 3 kg?"), Turn("assistant", asked.text)]
    assert agent.reply("England", history).text == "Postage to UK is £6.00."


def test_the_list_names_owner_kind_version_and_permissions(site: Path, cli: Any) -> None:
    rows = json.loads(cli("plugins", "list", "--json", env=_env(site)).stdout)
    mine = next(row for row in rows if row["name"] == "postage")
    assert (mine["owner"], mine["kind"], mine["version"]) == (
        "featherdesk-postage",
        "skill",
        "0.1.0",
    )
    assert mine["permissions"] == "read, no confirmation, 5 s"
    assert next(row for row in rows if row["name"] == "build")["permissions"] == "-"
    shown = cli("plugins", "list", env=_env(site)).stdout
    line = next(line for line in shown.splitlines() if "postage" in line)
    assert line.split() == [
        "skill",
        "postage",
        "featherdesk-postage",
        "0.1.0",
        "read,",
        "no",
        "confirmation,",
        "5",
        "s",
    ]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('not today')", "not today"),
        ("import nothing_of_that_name", "No module named"),
        ("raise SystemExit(3)", "does not load"),
        ("class Lost:\n    pass", "must declare risk"),
        (
            "class Lost:\n    risk, confirm, timeout = 'high', False, 1",
            "'high' is not a valid Risk",
        ),
        ("found = 1", "has no attribute 'Lost'"),
    ],
)
def test_a_broken_skill_is_shown_with_the_reason(
    tmp_path: Path, cli: Any, code: str, said: str
) -> None:
    info = tmp_path / "lost-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lost\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[featherdesk.skills]\nlost = lost_skill:Lost\n")
    (tmp_path / "lost_skill.py").write_text(code + "\n")
    done = cli("plugins", "list", env=_env(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if " lost " in line)
    assert "broken: " in line
    assert said in line
    assert "order_status" in done.stdout


def test_the_documentation_shows_the_example_as_it_is() -> None:
    code = (EXAMPLE / "featherdesk_postage.py").read_text(encoding="utf-8")
    assert code in (ROOT / "docs" / "skills.md").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 32


@pytest.mark.end_to_end
def test_a_bot_is_built_with_the_plugin_and_answers_from_the_shell(
    site: Path, cli: Any, tmp_path: Path
) -> None:
    (tmp_path / "faq.csv").write_text(
        "question,answer,variants\n"
        "How long does delivery take?,It takes 3 days.,delivery time|when will it arrive\n"
        "How do I pay?,We accept Visa.,payment methods\n"
    )
    (tmp_path / "bot.toml").write_text('[bot]\nfaq = ["faq.csv"]\n[skills]\nuse = ["postage"]\n')
    env = _env(site)
    built = cli("build", "bot.toml", cwd=tmp_path, env=env)
    assert built.returncode == 0, built.stderr
    assert "2 entries (en)" in built.stdout
    asked = cli(
        "ask", "bot", "how much is it to send 2 kg to France?", "--json", cwd=tmp_path, env=env
    )
    told = json.loads(asked.stdout)
    assert (told["text"], told["route"], told["author"]) == (
        "Postage to France is £8.00.",
        "skill",
        "skill",
    )
    assert told["skill"] == {
        "name": "postage",
        "state": "ran",
        "arguments": ["kg", "country"],
        "data": {"price": "8.00"},
    }
    why = cli("explain", "bot", "postage for 2 kg", cwd=tmp_path, env=env).stdout
    assert "Skill: postage (asked); was told: kg." in why
    lost = cli("ask", "bot", "postage for 2 kg", cwd=tmp_path)
    assert (lost.returncode, "Traceback" in lost.stderr) == (1, False)
    assert "no plugin 'postage'" in lost.stderr

"""The script that draws growth curves, on the tiny bot and few entries."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "measure_growth.py"


@pytest.fixture(scope="module")
def growth() -> Any:
    spec = importlib.util.spec_from_file_location("measure_growth", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_growth"] = module
    spec.loader.exec_module(module)
    return module


def test_no_two_made_up_entries_ask_the_same(growth: Any) -> None:
    entries = growth.made_entries(500)
    assert len({one.question for one in entries}) == 500
    assert entries == growth.made_entries(500)


def test_curves_are_drawn_of_what_grew(tiny_bot: Path, tmp_path: Path) -> None:
    out = tmp_path / "growth"
    command = [sys.executable, str(SCRIPT), str(tiny_bot), "--limit", "2", "--out", str(out)]
    done = subprocess.run(
        [*command, "--entries", "20", "--turns", "0,2", "--users", "1,2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((out / "growth.json").read_text())["grown"]
    assert [(one["kind"], one["at"]) for one in told] == [
        ("entries", 20),
        ("turns", 0),
        ("turns", 2),
        ("users", 1),
        ("users", 2),
    ]
    assert all(one["resident_mb"] > 0 for one in told)
    assert told[0]["routing_ms"]["of"] > 0
    assert told[-1]["answers_a_second"] > 0
    page = (out / "growth.html").read_text()
    assert page.count("<svg") == 7
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (out / "growth.png").stat().st_size > 1000

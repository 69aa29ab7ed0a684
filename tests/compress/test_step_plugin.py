"""The step of the documentation, installed as a user installs it, in a recipe of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.errors import ConfigError
from featherdesk.compress.recipe import load_recipe
from featherdesk.compress.steps import run_steps
from safetensors.torch import load_file

from .conftest import task_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "compression.md"
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "scaled-heads"
version = "0.2.0"

{entry_point}
[tool.setuptools]
packages = ["your_package"]
"""
RECIPE = """
[[steps]]
use = "scale_head"
by = {by}

[[steps]]
use = "export"
precision = "fp32"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the documentation's step installed, word for word."""
    told = DOCS.read_text(encoding="utf-8").partition("## A step of your own")[2]
    code, entry_point = (
        re.findall(rf"```{kind}\n(.*?)```", told, re.DOTALL)[0] for kind in ("python", "toml")
    )
    folder = tmp_path_factory.mktemp("step")
    source = folder / "source"
    (source / "your_package").mkdir(parents=True)
    (source / "your_package" / "__init__.py").touch()
    (source / "your_package" / "steps.py").write_text(code)
    (source / "pyproject.toml").write_text(PROJECT.format(entry_point=entry_point))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--target", str(folder / "site"), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def _recipe(folder: Path, by: float) -> str:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(by=by))
    return str(path)


def test_the_list_names_who_owns_a_step(site: Path, cli: Any) -> None:
    env = {**os.environ, "PYTHONPATH": str(site)}
    rows = json.loads(cli("plugins", "list", "--json", env=env).stdout)
    mine = next(row for row in rows if row["name"] == "scale_head")
    assert (mine["owner"], mine["kind"], mine["version"]) == ("scaled-heads", "step", "0.2.0")


def test_the_step_runs_by_the_name_in_its_entry_point(
    site: Path, lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    recipe = load_recipe(_recipe(tmp_path, 2.0))
    done = run_steps(recipe.steps[:1], lively, tmp_path / "work", task_of(lively, tmp_path))
    assert (done[0].name, done[0].kind, done[0].measured) == ("scale_head", "shape", {"by": 2.0})
    before, after = (load_file(f / "model.safetensors") for f in (lively, done[0].folder))
    scaled = [name for name in before if not before[name].equal(after[name])]
    assert scaled == ["model.norm.weight"]
    assert after["model.norm.weight"].equal(2 * before["model.norm.weight"])


def test_its_settings_are_checked_as_ours_are(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no step 'scale_head'"):
        load_recipe(_recipe(tmp_path, 2.0))
    monkeypatch.syspath_prepend(str(site))
    with pytest.raises(ConfigError, match=r"step 1 \(scale_head\): by must be above 0, not 0"):
        load_recipe(_recipe(tmp_path, 0))

"""Every shipped recipe, with small numbers, through the command `compress`; and what it reports."""

import html
import json
import math
import re
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress.compress_command import compress
from featherdesk.compress.dataset import save
from featherdesk.compress.figures import FIGURES
from featherdesk.compress.recipe import recipes_root, shipped
from featherdesk.compress.report import columns, load

from .conftest import kin, task_of

SMALL: dict[str, dict[str, object]] = {
    "vocabulary": {"size": 300},
    "layers": {"remove": 1},
    "heal": {"tokens": 1, "batch": 1, "compiled": False},
}


def _small(name: str) -> str:
    """The steps of a recipe for a tiny model; precision, blocks and order are as they ship."""
    told = tomllib.loads((recipes_root() / f"{name}.toml").read_text(encoding="utf-8"))
    lines = []
    for step in told["steps"]:
        given = {**step, **SMALL.get(step["use"], {})}
        lines += ["[[steps]]", *(f"{key} = {json.dumps(value)}" for key, value in given.items())]
    return "\n".join(lines)


DISTINCT = {_small(name): name for name in shipped()}
"""Recipes that differ in their numbers alone are run once."""


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "m"
    return kin("llama", tiny, out, initializer_range=0.1, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def rows(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    material = task_of(model, path.parent).material
    save([*material.rows, *material.held], path)
    return path


@pytest.fixture(scope="module")
def made(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs a recipe, once; the folder and what was printed."""
    known: dict[str, tuple[Path, dict[str, Any]]] = {}

    def run(text: str) -> tuple[Path, dict[str, Any]]:
        if text not in known:
            folder = tmp_path_factory.mktemp("out")
            (folder / "r.toml").write_text(text)
            given = [str(model), "--recipe", str(folder / "r.toml"), "--out", str(folder / "o")]
            given += ["--calibration", str(rows), "--questions", "4", "--json"]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", ["featherdesk", "compress", *given])
                done = CliRunner().invoke(compress, given)
            assert done.exception is None, done.output
            known[text] = folder / "o", json.loads(done.stdout)
        return known[text]

    return run


@pytest.mark.parametrize("text", DISTINCT, ids=DISTINCT.values())
def test_a_shipped_recipe_runs_to_a_generator_that_answers(text: str, made: Any) -> None:
    out, told = made(text)
    assert told["folder"] == str(out)
    assert told["generator_mb"] > 0
    steps = json.loads((out / "compression.json").read_text())
    assert [step["name"] for step in steps] == re.findall(r'use = "(\w+)"', text)
    generator = OnnxGenerator(out, 1)
    written = generator.generate(
        generator.encode("ask 3"),
        max_tokens=4,
        deadline=time.monotonic() + 60,
        stopped=lambda: False,
    )
    assert list(written)


def test_the_report_that_compress_writes_holds_every_figure(made: Any) -> None:
    text = next(text for text, name in DISTINCT.items() if name == "tiny")
    out, told = made(text)
    run = load(out / "report")
    names = ["vocabulary", "layers", "channels", "heal", "export"]
    assert [name for name, _ in columns(run)] == ["fp32", "int4, unpruned", *names]
    for column, measured in columns(run):
        for figure in FIGURES:
            value = figure.read(measured)
            assert value is not None, (column, figure.key)
            assert math.isfinite(value), (column, figure.key)
        assert measured.crowd is not None
        assert (measured.crowd.users, measured.questions) == (8, 4)
        assert measured.command
    assert run.result is not None
    assert run.result.quality.correct == told["correct"]
    assert run.result.size_mb == pytest.approx(told["generator_mb"], abs=0.1)
    assert run.result.size_mb < run.unpruned.size_mb < run.fp32.size_mb == run.fp32_mb  # type: ignore[union-attr]
    assert "the gate judges bots" in " ".join(run.notes)


def test_the_page_that_compress_writes_shows_what_was_measured(made: Any) -> None:
    text = next(text for text, name in DISTINCT.items() if name == "tiny")
    out, told = made(text)
    assert told["report"] == str(out / "report" / "report.html")
    page = Path(told["report"]).read_text(encoding="utf-8")
    run = load(out / "report")
    for figure in FIGURES:
        assert figure.name.format(users=8) in page, figure.key
    assert html.escape(run.command) in page
    assert run.command.startswith("featherdesk compress ")
    assert "of fp32" in page
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+|<script|<link|<img|url\(", page)
    figures = re.findall(r"<figure class='wide'>.*?</figure>", page, re.DOTALL)
    assert figures
    assert all(re.search(r"<figcaption><code>[^<]+</code>", one) for one in figures)
    for name in ("steps.png", "pareto.png"):
        assert (out / "report" / name).read_bytes().startswith(b"\x89PNG")

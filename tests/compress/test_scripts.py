"""The scripts that measure and make, on a tiny bot: that they run, and what they leave."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from featherdesk.agent.config import load_config
from featherdesk.agent.evaluate import load_cases
from featherdesk.agent.ingest import read_faq
from featherdesk.agent.wide import sums_bytes
from featherdesk.compress.dataset import save
from featherdesk.compress.export import ExportFast
from featherdesk.compress.figures import FIGURES
from featherdesk.compress.layers import RemoveLayers
from featherdesk.compress.page import pareto_points
from featherdesk.compress.report import load

from .conftest import SHOP, task_of

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(TESTS))
    return importlib.import_module


def _lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_bots_of_other_sizes_are_compared(script: Any, shop_bot: Path, tmp_path: Path) -> None:
    module = script("measure_sizes")
    rows: list[dict[str, Any]] = [
        {"question": question, "entry_ids": [name], "facts": []} for name, question, _ in SHOP
    ]
    rows.append({"question": "do you sell flights to the moon", "out_of_scope": True})
    test = _lines(tmp_path / "test.jsonl", rows)
    other = shutil.copytree(shop_bot, tmp_path / "other")
    command = [str(tmp_path / "out"), str(shop_bot), str(other), "--data", str(test)]
    command += ["--speed", "3"]
    done = CliRunner().invoke(module.main, command)
    assert done.exit_code == 0, done.output
    assert "4 questions in scope, 1 out of it" in done.output
    told = json.loads((tmp_path / "out" / "sizes.json").read_text())
    first, second = ({**one, "name": "", "first": 1, "rate": 1} for one in told)
    assert first == second
    assert (told[0]["first"], told[0]["rate"]) == (1.0, 1.0)
    assert told[1]["first"] > 0
    assert first["generator_mb"] > 0
    assert (tmp_path / "out" / "sizes.png").read_bytes().startswith(b"\x89PNG")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*-test-*.json")}
    assert len(kept) == 2
    assert CliRunner().invoke(module.main, command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_rewordings_are_held_against_their_questions(
    script: Any, shop_bot: Path, tmp_path: Path
) -> None:
    module = script("measure_rewordings")
    name, question, _ = SHOP[0]
    rows = [
        {"question": question, "entry_ids": [name], "kind": "plain"},
        {"question": "do you sell flights to the moon", "out_of_scope": True, "kind": "far"},
    ]
    test = _lines(tmp_path / "test.jsonl", rows)
    done = CliRunner().invoke(module.main, [str(shop_bot), str(test), "--count", "6"])
    assert done.exception is None, done.output
    told = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in told] == [
        "| in scope, right entry first",
        "| out of scope, refused",
        "| - plain",
    ]
    assert told[0][1] == told[2][1] == "100.0 % of 1"
    assert sum(int(row[2].removesuffix(" |").split()[-1]) for row in told[:2]) == 6


def test_both_graphs_are_asked_in_turn(script: Any, shop_bot: Path) -> None:
    module = script("measure_graphs")
    done = CliRunner().invoke(module.main, [str(shop_bot), "--limit", "2"])
    assert done.exception is None, done.output
    first, second = (line.split(" | ") for line in done.stdout.splitlines()[-2:])
    count = done.stdout.split()[0]
    assert first[1].endswith("(1.00)")
    assert first[3:] == [count, f"{count} |"]
    assert second[0] == f"| second graph of {shop_bot.name}"
    assert 0 <= int(second[3]) <= int(count)


def test_techniques_are_compared_in_a_table(
    script: Any, shop_bot: Path, roomy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("measure_techniques")
    every = module.techniques()
    assert len({one.name for one in every}) == len(every)
    cut = {one.name for one in every if one.steps}
    assert all(f"{name}, healed" in cut for name in cut if not name.endswith("healed"))
    few = [
        module.Technique("fp32", export=ExportFast("fp32")),
        module.Technique(module.BASE),
        module.Technique("a layer", (("layers", RemoveLayers(1)),), heal=True),
        module.Technique("left out", (("layers", RemoveLayers(9)),)),
    ]
    monkeypatch.setattr(module, "techniques", lambda: few)
    monkeypatch.setenv("CXX", "no-such-compiler")
    material = task_of(roomy, tmp_path).material
    save([*material.rows, *material.held], tmp_path / "rows.jsonl")
    out = tmp_path / "out"
    given = [str(shop_bot), str(tmp_path / "work"), str(out), "--only", "a layer"]
    given += ["--calibration", str(tmp_path / "rows.jsonl"), "--tokens", "1", "--questions", "4"]
    done = CliRunner().invoke(module.main, given)
    assert done.exception is None, done.output
    run = load(out)
    assert [one.name for one in run.techniques] == ["fp32", module.BASE, "a layer"]
    measured = [one.measured for one in run.techniques if one.measured]
    sizes = [one.size_mb for one in measured]
    assert sizes == sorted(sizes, reverse=True)
    assert (run.fp32, run.unpruned) == (measured[0], measured[1])
    points = [point.name for point in pareto_points(run, FIGURES[0])]
    assert points == ["int4, unpruned", "a layer"]
    text = (out / "report.html").read_text()
    assert text.count(run.command.replace("'", "&#x27;")) == 2
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + len(measured)
    assert lines[3].split(" | ")[2:4] == ["1.00", "1.00"]


def test_a_bot_is_made_of_a_public_set(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("make_public_bot")
    rows = [
        {
            "id": "r0",
            "question": "can I leave my car?",
            "entry_ids": ["hotel/1/0"],
            "kind": "plain",
        },
        {"id": "r1", "question": "what of a pool?", "entry_ids": ["hotel/1/9"], "kind": "plain"},
    ]
    told = [{**row, "business": "hotel/1"} for row in rows]
    monkeypatch.setattr(module, "ROWS", [_lines(tmp_path / "rows.jsonl", told)])
    docs = {"0": {"title": "Is there parking?", "body": "Parking is free."}}
    (tmp_path / "k.json").write_text(
        json.dumps({"hotel": {"1": {"name": "THE ELM", "docs": docs}}})
    )
    (tmp_path / "SOURCE.txt").write_text("somebody else's")
    out = tmp_path / "bot"
    done = CliRunner().invoke(module.main, [str(tmp_path / "k.json"), str(out)])
    assert done.exception is None, done.output
    assert done.output == "1 entries of 1 businesses, 1 questions\n"
    config = load_config(out / "bot.toml")
    (entry,) = read_faq(*(out / name for name in config.bot.faq))
    assert (entry.id, entry.question) == ("hotel/1/0", "The Elm: Is there parking?")
    (case,) = load_cases(out / "test.jsonl", {entry.id})
    assert case.question == "The Elm: can I leave my car?"


def test_a_start_is_measured(shop_bot: Path) -> None:
    command = [sys.executable, str(TESTS / "measure_start.py"), str(shop_bot), "--no-page"]
    done = subprocess.run(
        [*command, "--answers", "1", "--starts", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ready_s"]["least"] == told["ready_s"]["median"] > 0
    assert "page_s" not in told
    assert sum(told["authors"].values()) == 1
    assert told["answers_mb"]["1"]["resident"] >= told["answers_mb"]["1"]["anonymous"] > 0
    assert {"imports", "index", "generator", "guards", "first question"} <= set(told["parts"])


def test_passes_are_held_against_what_the_machine_allows(shop_bot: Path) -> None:
    command = [sys.executable, str(TESTS / "measure_profile.py"), str(shop_bot)]
    options = ["--past", "20", "--tokens", "1", "8", "--rounds", "3"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    one, eight = told["passes"]["1"], told["passes"]["8"]
    assert one["ms_at_fp32_peak"] < eight["ms_at_fp32_peak"]
    assert told["int8_gops"] > 0
    ratio = told["fp32_gflops"] / told["int8_gops"]
    assert eight["ms_at_int8_peak"] == pytest.approx(eight["ms_at_fp32_peak"] * ratio, abs=0.02)
    assert one["ms_at_bandwidth"] == eight["ms_at_bandwidth"] > 0
    assert 0.5 < sum(one["shares"].values()) < 1.01
    assert any(name.startswith("MatMul") for name in one["shares"])
    if sums_bytes():
        assert set(told["customers"]) == {"2", "3", "4", "8"}
        assert all(spent > 0 for pair in told["customers"].values() for spent in pair.values())


def test_users_are_counted_against_the_ceiling(script: Any, shop_bot: Path) -> None:
    module = script("measure_users")
    done = CliRunner().invoke(module.main, [str(shop_bot), "--users", "2", "--seconds", "1"])
    assert done.exception is None, done.output
    told = json.loads(done.stdout)
    assert set(told["ms_a_token"]) >= {"rows=1", "rows=8", "tokens=64"}
    (two,) = told["users"]
    assert (two["users"], two["errors"]) == (2, 0)
    assert two["answers"] >= 2
    assert two["tokens_fed"] > two["passes"] > 0
    best = min(told["ms_a_token"].values())
    assert two["seconds_at_the_ceiling"] == pytest.approx(two["tokens_fed"] * best / 1e3, abs=1e-3)


def test_the_tokens_of_prompts_are_counted(
    script: Any,
    shop_bot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = script("count_prompt_tokens")
    history = [
        {"role": "user", "content": SHOP[0][1]},
        {"role": "assistant", "content": SHOP[0][2]},
    ]
    rows = [
        {"history": history, "question": "what does it cost?", "entry_ids": ["delivery"]},
        {"history": [], "question": "worn boots?", "entry_ids": ["worn"], "facts": [["returned"]]},
    ]
    monkeypatch.setattr(module, "DIALOGUES", _lines(tmp_path / "d.jsonl", rows))
    monkeypatch.setattr(sys, "argv", ["count", str(shop_bot), "--routed", "1"])
    module.main()
    told = json.loads(capsys.readouterr().out)
    longest = max(len(f"Q: {q}\nA: {a}\n\n".encode()) for _, q, a in SHOP)
    assert told["parts"]["entry, largest"] == longest  # a token a byte
    assert told["follow-ups"]["dialogues"] == 1
    said = "Customer: " + SHOP[0][1] + "\nAgent: " + SHOP[0][2] + "\n"
    assert told["follow-ups"]["history tokens"] == len(said.encode())
    assert [one["questions"] for one in told["cuts"]] == [1, 1, 1]
    assert told["cuts"][0]["lost a fact"] == 0
    assert told["routed"]["dialogues"] == 1


def test_onnxruntimes_gptq_is_held_against_rounding(script: Any, roomy: Path) -> None:
    command = [str(roomy), "--block-size", "16", "--prompts", "2"]
    done = CliRunner().invoke(script("measure_gptq").main, command)
    assert done.exception is None, done.output
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["nearest", "GPTQ", "GPTQ, mse"]
    assert all(float(row[place]) > 0 for row in rows for place in (1, 3))
    assert all(row[place].endswith(" %") for row in rows for place in (2, 4))


def test_an_index_of_made_up_entries_is_measured(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    script("measure_scale").main(60)
    told = capsys.readouterr().out
    assert "built 60 entries" in told
    assert re.search(r"recall@10 against exact search (1\.000|0\.9\d\d)\n", told)
    assert re.search(r"whole routing: p50 [\d.]+ ms, p95 [\d.]+ ms\n", told)


def test_answers_with_guesses_are_held_against_those_without(script: Any, shop_bot: Path) -> None:
    module = script("measure_lookup")
    done = CliRunner().invoke(module.main, [str(shop_bot), "--limit", "4"])
    assert done.exception is None, done.output
    assert re.search(r"(\d) answers, \1 the same token by token", done.stdout)
    assert re.search(r"logits of \d+ tokens moved by 0\.\d\d % of their spread", done.stdout)
    rows = [np.array(row, np.float32) for row in ([0.0, 2.0], [1.0, 0.9], [0.9, 1.0])]
    moved, place = module.parted(([1, 0], rows[:2]), ([1, 1], [rows[0], rows[2]]))
    assert moved == pytest.approx([0.0, 2.0])
    assert place == module.Parted(1, pytest.approx(2.0, rel=1e-4), pytest.approx(2.0, rel=1e-4))

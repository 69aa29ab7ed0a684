"""`featherdesk compress` on a tiny model: whole, interrupted, and with what cannot be."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.artifacts import Manifest, seal, sha256_of, verify
from featherdesk.agent.catalog import adapters_root
from featherdesk.agent.errors import ArtifactError, CatalogError, ConfigError, InputError
from featherdesk.agent.generators import WEIGHTS, adapter_folder
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress.compress_command import compress as compress_command
from featherdesk.compress.compression import (
    Compressed,
    bot_with,
    compress,
    finish,
    places,
    work_folder,
)
from featherdesk.compress.material import Material
from featherdesk.compress.recipe import load_recipe, shipped
from featherdesk.compress.subject import Subject, _adapter_of, find_subject
from featherdesk.compress.trial import entries_of
from safetensors.torch import load_file, save_file

from .conftest import kin

RECIPE = """
[[steps]]
use = "layers"
remove = {remove}

[[steps]]
use = "heal"
tokens = 1800
batch = 1
accumulate = 1
compiled = false

[[steps]]
use = "export"
precision = "fp32"
"""


@pytest.fixture
def small(tiny: Path, tmp_path: Path) -> Path:
    """A tiny model of another architecture, with room for a prompt in bytes."""
    return kin("qwen2", tiny, tmp_path / "model", max_position_embeddings=4096)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(remove=1))
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"Parcel {n} takes {n} days and costs £{n}.95." for n in range(40)))
    return path


def run(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "featherdesk.agent.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


def _ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it said, on stdout and stderr; it does not outlive the test."""
    try:
        return process.communicate(timeout=800)
    finally:
        process.kill()
        process.wait()


def _says(folder: Path, text: str) -> list[int]:
    """Up to four tokens of a generator folder."""
    generator = OnnxGenerator(folder, 1)
    steps = generator.generate(
        generator.encode(text),
        max_tokens=4,
        deadline=time.monotonic() + 60,
        stopped=lambda: False,
    )
    return [step.token for step in steps]


@pytest.mark.parametrize("kind", ["gemma3_text", "mistral", "qwen3", "smollm3"])
def test_every_architecture_goes_through_to_a_generator(
    kind: str, tiny: Path, recipe: Path, texts: Path, tmp_path: Path
) -> None:
    """llama and qwen2 go through below."""
    model, out = kin(kind, tiny, tmp_path / "model", max_position_embeddings=4096), tmp_path / "out"
    finish(compress(str(model), load_recipe(str(recipe)), out, calibration=texts), out)
    assert len(_says(out, "Parcel 3 takes")) > 0


def test_a_model_folder_becomes_a_generator_that_answers(
    tiny: Path, recipe: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    done = compress(str(tiny), load_recipe(str(recipe)), out, calibration=texts)
    assert [step.name for step in done.steps] == ["layers", "heal", "export"]
    assert done.folder == work_folder(out) / "result" / "small"  # no step's folder, however called
    assert done.subject.base == str(tiny)
    assert not out.exists()
    finish(done, out)
    assert _says(out, "Parcel 3 takes")
    told = json.loads((out / "compression.json").read_text())
    assert told[0]["measured"]["layers"] == 1
    assert told[1]["measured"]["steps"] == 4


def test_killed_inside_healing_it_goes_on_from_the_checkpoint(
    small: Path, texts: Path, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "long.toml", tmp_path / "small"
    recipe.write_text(RECIPE.format(remove=1).replace("tokens = 1800", "tokens = 46000"))
    command = ("compress", small, "--recipe", recipe, "--out", out, "--calibration", texts)
    process = run(*command)
    kept = work_folder(out) / "scratch" / "heal" / "checkpoint.safetensors"
    while process.poll() is None and not kept.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert kept.exists(), errors
    assert not out.exists()
    process = run(*command)
    _, errors = _ended(process)
    assert process.returncode == 0, errors
    went_on = re.search(r"heal: going on from step (\d+)", errors)
    assert went_on is not None, errors
    assert int(went_on[1]) % 50 == 0
    assert not kept.exists()
    assert _says(out, "Parcel 3 takes")


def test_a_killed_run_leaves_nothing_that_loads_and_goes_on(
    small: Path, recipe: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    command = ("compress", small, "--recipe", recipe, "--out", out, "--calibration", texts)
    process = run(*command)
    first = work_folder(out) / "01-layers" / "step.json"
    while process.poll() is None and not first.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert first.exists()
    assert not out.exists()
    with pytest.raises(ArtifactError):
        OnnxGenerator(out)
    process = run(*command)
    told: list[str] = []
    for line in process.stderr or ():
        told.append(line)
        if "measuring" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "measuring" in told[-1], told
    assert any("layers was done already" in line for line in told)
    assert not out.exists()
    again = run(*command, "--json")
    stdout, stderr = _ended(again)
    assert again.returncode == 0, stderr
    assert "export was done already" in stderr
    assert json.loads(stdout)["folder"] == str(out)
    assert _says(out, "Parcel 3 takes")


def test_more_layers_than_there_are_is_one_line(tiny: Path, texts: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(remove=3))
    process = run(
        "compress", tiny, "--recipe", path, "--out", tmp_path / "o", "--calibration", texts
    )
    _, stderr = _ended(process)
    assert process.returncode == 1
    assert "asks to remove 3 of 2 layers" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "o").exists()


def test_an_architecture_that_is_not_known_is_one_line(
    tiny: Path, texts: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    process = run("compress", other, "--out", tmp_path / "o", "--calibration", texts)
    _, stderr = _ended(process)
    assert process.returncode == 1
    assert "mamba" in stderr
    assert "llama" in stderr, "what is known is listed"
    assert "Traceback" not in stderr
    assert not (tmp_path / "o").exists()


def test_no_calibration_data_is_told(tiny: Path, tmp_path: Path) -> None:
    empty = tmp_path / "none.txt"
    empty.write_text("\n\n")
    with pytest.raises(InputError, match="no calibration data"):
        find_subject(str(tiny), tmp_path / "w", calibration=empty)
    with pytest.raises(InputError, match="no such file"):
        find_subject(str(tiny), tmp_path / "w", calibration=tmp_path / "not.jsonl")


def test_what_is_neither_bot_nor_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CatalogError, match="not a model folder"):
        find_subject(str(tmp_path / "folder"), tmp_path / "w")
    with pytest.raises(CatalogError, match="no model 'nothing'"):
        find_subject("nothing", tmp_path / "w")
    with pytest.raises(ConfigError, match="name the bot folder"):
        find_subject("models/sample/bot.toml", tmp_path / "w")


def test_a_merged_parent_is_of_its_own_base_and_adapter(
    tiny: Path, adapter: Path, tmp_path: Path
) -> None:
    base, own = tmp_path / "base", tmp_path / "own"
    shutil.copytree(tiny, base)
    shutil.copytree(adapter, own)

    def parent() -> Path:
        return find_subject(str(base), tmp_path / "w", adapter=str(own)).parent

    first = parent()
    assert parent() == first
    settings = json.loads((own / "adapter_config.json").read_text())
    (own / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 1}))
    second = parent()
    kept = load_file(base / "model.safetensors")
    save_file({k: v * 1.5 for k, v in kept.items()}, base / "model.safetensors", {"format": "pt"})
    third = parent()
    weights = [load_file(one / "model.safetensors") for one in (first, second, third)]
    name = "model.layers.0.self_attn.q_proj.weight"
    assert len({float(one[name].sum()) for one in weights}) == 3


def test_every_shipped_recipe_can_be_read() -> None:
    assert {"balanced", "gpu", "int8", "tiny"} <= set(shipped())
    for name in shipped():
        told = load_recipe(name)
        assert told.name == name
        assert told.about
    (recipe,) = (one for one in compress_command.params if one.name == "recipe")
    assert recipe.default == "balanced"


def small_bot(folder: Path) -> Path:
    for name in ("knowledge", "generator", "report"):
        (folder / name).mkdir(parents=True)
    (folder / "bot.toml").write_text('[bot]\nname = "Shop"\nfaq = ["faq.csv"]\n')
    (folder / "generator" / "model.onnx").write_text("old")
    (folder / "report" / "report.json").write_text("{}")
    (folder / "knowledge" / "entries.jsonl").write_text(
        json.dumps({"id": "a", "question": "Q?", "answer": "A.", "variants": ["q"]}) + "\n"
    )
    seal(
        folder,
        Manifest(
            name="Shop",
            base="smollm2-135m-instruct",
            base_sha256="",
            adapter="sample",
            prompt_contract="x",
            writes=("en",),
            encoder="none",
            entries=1,
            languages=("en",),
            refusal=0.25,
            gate={"verdict": "passed"},
        ),
    )
    return folder


def test_a_bot_gets_another_generator_and_loses_its_old_verdict(tmp_path: Path) -> None:
    bot = small_bot(tmp_path / "bot")
    generator = tmp_path / "generator"
    generator.mkdir()
    (generator / "model.onnx").write_text("new")
    told = bot_with(bot, generator, tmp_path / "out", steps=[{"name": "layers"}])
    assert told.gate is None
    assert told.refusal == 0.25
    assert told.steps == ({"name": "layers"},)
    verify(tmp_path / "out", Manifest.load(tmp_path / "out"))
    assert (tmp_path / "out" / "generator" / "model.onnx").read_text() == "new"
    assert (bot / "generator" / "model.onnx").read_text() == "old"
    assert not (tmp_path / "out" / "report").exists()
    assert list(entries_of(tmp_path / "out")) == ["a"]


def test_the_adapter_is_the_one_that_the_bot_was_built_with(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "sample"  # one that ships bears this name, too
    own.mkdir(parents=True)
    (own / WEIGHTS).write_bytes(b"mine")
    bot = small_bot(tmp_path / "bot")
    toml = (bot / "bot.toml").read_text()
    (bot / "bot.toml").write_text(f'{toml}[generation]\nadapter = "{own}"\n')
    told = replace(Manifest.load(bot), adapter_sha256=sha256_of(own / WEIGHTS))
    assert _adapter_of(bot, told) == own
    assert _adapter_of(bot, replace(told, adapter_sha256="")) == adapter_folder("sample")
    (own / WEIGHTS).write_bytes(b"trained again")
    with pytest.raises(ArtifactError, match=r"'sample' .* not there any more; name it with --ada"):
        _adapter_of(bot, told)
    shipped = sha256_of(adapters_root() / "sample" / WEIGHTS)
    assert _adapter_of(bot, replace(told, adapter_sha256=shipped)) == adapter_folder("sample")


def _gated(folder: Path, verdict: str) -> Path:
    bot = small_bot(folder)
    seal(bot, replace(Manifest.load(bot), gate={"verdict": verdict} if verdict else None))
    return bot


@pytest.mark.parametrize("verdict", ["refused", "undecided"])
@pytest.mark.parametrize("before", ["passed", "refused", "", "absent"])
def test_a_bot_that_passed_is_not_replaced_by_one_that_did_not(
    tmp_path: Path, before: str, verdict: str
) -> None:
    out = tmp_path / "out"
    if before != "absent":
        _gated(out, before)
    result = Subject(tmp_path, Material((), ()))
    done = Compressed(_gated(tmp_path / "work" / "out", verdict), result, (), 1.0)
    kept = before == "passed"
    assert (tmp_path / f"out-{verdict}" in places(out)) is kept
    made = finish(done, out, verdict)
    assert made == (tmp_path / f"out-{verdict}" if kept else out)
    assert (Manifest.load(made).gate or {})["verdict"] == verdict
    assert (Manifest.load(out).gate or {})["verdict"] == ("passed" if kept else verdict)
    better = Compressed(_gated(tmp_path / "better" / "out", "passed"), result, (), 1.0)
    assert finish(better, out) == out
    assert Manifest.load(out).gate == {"verdict": "passed"}

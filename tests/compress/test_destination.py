import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from featherdesk.agent.destination import COMPRESSION, JOURNAL, PARITY, check_destination
from featherdesk.agent.errors import ConfigError, MissingExtraError
from featherdesk.compress import commands

from .test_compression import small_bot

COMMANDS = {
    "compress": ("compress_command", ()),
    "quantize": ("quantize_command", ()),
    "export": ("commands", ("--format", "gguf")),
    "prune": ("prune_command", ("--layers", "1")),
    "distill": ("prune_command", ("--parent", "smollm2-135m-instruct")),
    "plan": ("plan_command", ()),
    "classify": ("commands", ()),
}


def _ran(name: str, model: Path, out: Path) -> None:
    module, options = COMMANDS[name]
    command = getattr(import_module(f"featherdesk.compress.{module}"), name)
    CliRunner().invoke(command, [str(model), "--out", str(out), *options], catch_exceptions=False)


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def home(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a model, a letter, and a folder of letters."""
    home = tmp_path / "home"
    shutil.copytree(tiny, home / "model")
    (home / "letters").mkdir()
    (home / "letters" / "one.txt").write_text("dear")
    (home / "letter.txt").write_text("dear")
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_touches_what_is_not_its_own(home: Path, name: str) -> None:
    before = _files(home)
    for out, message in (
        (".", "is or holds the current directory"),
        ("..", "is or holds the current directory"),
        ("../home", "is or holds the current directory"),
        ("model", "would overwrite model"),
        ("model/small", "lie in it"),
        ("letters", "no folder that featherdesk wrote"),
        ("letter.txt", "no folder that featherdesk wrote"),
    ):
        with pytest.raises(ConfigError, match=message):
            _ran(name, Path("model"), Path(out))
    assert _files(home) == before


def test_no_adapter_is_written_into_what_it_is_trained_from(home: Path) -> None:
    (home / "rows.jsonl").write_text("")
    before = _files(home)
    for out in ("model", "model/small", "."):
        command = ["rows.jsonl", "--base", "./model", "--out", out]
        with pytest.raises(ConfigError, match=r"would overwrite|current directory"):
            CliRunner().invoke(commands.finetune, command, catch_exceptions=False)
    assert _files(home) == before


@pytest.mark.parametrize("where", ["bot", "bot/small", "."])
def test_a_bot_is_not_replaced_by_its_own_compression(tmp_path: Path, where: str) -> None:
    bot = small_bot(tmp_path / "acme" / "bot")
    before = _files(tmp_path)
    with pytest.raises(ConfigError, match="would overwrite"):
        _ran("compress", bot, tmp_path / "acme" / where)
    assert _files(tmp_path) == before


def test_a_file_that_is_read_does_not_lie_in_what_is_replaced(tmp_path: Path) -> None:
    out = small_bot(tmp_path / "out")
    (out / "texts.txt").write_text("words")
    with pytest.raises(ConfigError, match=r"texts\.txt, lie in it or hold it"):
        check_destination(out, "smollm2-135m-instruct", out / "texts.txt", None)


def test_absent_empty_and_our_own_folders_are_taken(tmp_path: Path) -> None:
    check_destination(tmp_path / "absent", "smollm2-135m-instruct", "", None)
    (tmp_path / "empty").mkdir()
    check_destination(tmp_path / "empty")
    for name in (PARITY, COMPRESSION, JOURNAL):
        (tmp_path / name[:3]).mkdir()
        (tmp_path / name[:3] / name).write_text("{}")
        check_destination(tmp_path / name[:3])
    check_destination(small_bot(tmp_path / "bot"))


def test_another_programs_manifest_is_no_bot(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "manifest.json").write_text(json.dumps({"manifest_version": 3}))
    with pytest.raises(ConfigError, match="remove it yourself"):
        check_destination(tmp_path / "page")


def test_a_folder_may_be_called_as_a_model_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_destination(Path("smollm2-135m-instruct"), "smollm2-135m-instruct")


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("compress", "onnxruntime_genai", r"onnxruntime-genai is not .*featherdesk\[cpu\]"),
        ("compress", "onnx", r"onnx is not installed.*featherdesk\[train\]"),
        ("compress", "matplotlib", r"matplotlib is not installed.*featherdesk\[train\]"),
        ("quantize", "onnxruntime_genai", "onnxruntime-genai is not installed"),
        ("plan", "onnxruntime_genai", "onnxruntime-genai is not installed"),
    ],
)
def test_a_package_that_is_missing_is_said_at_the_start(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: str, message: str
) -> None:
    import importlib.util

    keep = importlib.util.find_spec

    def hidden(package: str, *given: Any) -> Any:
        return None if package == missing else keep(package, *given)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    with pytest.raises(MissingExtraError, match=message):
        _ran(name, Path("model"), Path("small"))
    assert not (home / "small").exists()
    commands.needs_train()  # what prunes needs no graph

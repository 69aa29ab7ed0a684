import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.compress.material import Material
from featherdesk.compress.steps import Step, Task, run_steps

RUNS: list[str] = []


@dataclass(frozen=True)
class Mark:
    """Writes what it read and its own letter."""

    kind: ClassVar[str] = "shape"
    letter: str = "a"
    wait: float = 0.0
    error: str = ""

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        RUNS.append(self.letter)
        out.mkdir()
        text = (source / "config.json").read_text()
        (out / "config.json").write_text(text + self.letter)
        if self.error:
            raise {"memory": MemoryError(), "disk": OSError(28, "No space left")}.get(
                self.error
            ) or FeatherdeskError(self.error)
        if self.wait:
            (out.parents[2] / "inside").write_text("yes")
            time.sleep(self.wait)
        return {"letters": len(text) + 1}


@dataclass(frozen=True)
class Lazy:
    """Leaves nothing behind."""

    kind: ClassVar[str] = "shape"

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        return {}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    RUNS.clear()
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text("s")
    return folder


def _task(source: Path, tmp_path: Path) -> Task:
    return Task(source, Material((), (), ("a text",)), tmp_path / "scratch", progress=False)


def _steps(*steps: Step) -> list[tuple[str, Step]]:
    return [(f"mark{n}", step) for n, step in enumerate(steps)]


def test_each_step_reads_what_the_one_before_wrote(source: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    done = run_steps(
        _steps(Mark("a"), Mark("b")),
        source,
        tmp_path / "work",
        _task(source, tmp_path),
        after=lambda one: seen.append(one.name),
    )
    assert (done[-1].folder / "config.json").read_text() == "sab"
    assert [one.measured["letters"] for one in done] == [2, 3]
    assert seen == ["mark0", "mark1"]
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == ["01-mark0", "02-mark1"]


def test_a_finished_step_is_not_run_again(source: Path, tmp_path: Path) -> None:
    task = _task(source, tmp_path)
    with pytest.raises(FeatherdeskError, match="no"):
        run_steps(_steps(Mark("a"), Mark("b", error="no")), source, tmp_path / "work", task)
    assert not (tmp_path / "work" / "02-mark1").exists()
    done = run_steps(_steps(Mark("a"), Mark("b")), source, tmp_path / "work", task)
    assert RUNS == ["a", "b", "b"]
    assert (done[-1].folder / "config.json").read_text() == "sab"


def test_other_settings_source_data_or_seed_run_again(source: Path, tmp_path: Path) -> None:
    task, work = _task(source, tmp_path), tmp_path / "work"

    def ran(*letters: str, task: Task = task) -> list[str]:
        RUNS.clear()
        done = run_steps(_steps(*(Mark(one) for one in letters)), source, work, task)
        assert (done[-1].folder / "config.json").read_text().endswith("".join(letters))
        return list(RUNS)

    assert ran("a", "b") == ["a", "b"]
    assert ran("a", "b") == []
    assert ran("a", "c") == ["c"]
    assert ran("x", "c") == ["x", "c"]
    (source / "config.json").write_text("other")
    assert ran("x", "c") == ["x", "c"]
    other = replace(task, material=Material((), (), ("another text",)))
    assert ran("x", "c", task=other) == ["x", "c"]
    assert ran("x", "c", task=replace(other, seed=8)) == ["x", "c"]
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "config.json").write_text("p")
    assert ran("x", "c", task=replace(task, parent=tmp_path / "parent")) == ["x", "c"]


def test_out_of_memory_is_said_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    task, work = _task(source, tmp_path), tmp_path / "work"
    with pytest.raises(FeatherdeskError, match="mark0: out of memory"):
        run_steps(_steps(Mark("a", error="memory")), source, work, task)
    assert not list(work.iterdir())


@dataclass(frozen=True)
class Greedy:
    """Asks torch for four petabytes."""

    kind: ClassVar[str] = "shape"

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        import torch

        return {"size": torch.empty(2**52, dtype=torch.uint8).numel()}


def test_what_torch_says_of_memory_is_understood(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatherdeskError, match=r"mark0: out of memory; .* finished steps are kept"):
        run_steps(_steps(Greedy()), source, tmp_path / "work", _task(source, tmp_path))


def test_a_full_disk_is_said_and_keeps_finished_steps(source: Path, tmp_path: Path) -> None:
    task, work = _task(source, tmp_path), tmp_path / "work"
    with pytest.raises(FeatherdeskError, match=r"mark1: .*No space left; free space"):
        run_steps(_steps(Mark("a"), Mark("b", error="disk")), source, work, task)
    assert [one.name for one in work.iterdir()] == ["01-mark0"]


def test_a_step_that_leaves_no_folder_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatherdeskError, match="'mark0' left no folder"):
        run_steps(_steps(Lazy()), source, tmp_path / "work", _task(source, tmp_path))


CHILD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("steps_under_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["steps_under_test"] = module
spec.loader.exec_module(module)
root = Path(sys.argv[2])
module.run_steps(
    module._steps(module.Mark("a"), module.Mark("b", wait=600.0)),
    root / "source", root / "work", module._task(root / "source", root),
)
"""


def test_a_kill_inside_a_step_leaves_nothing_that_loads_and_the_next_run_goes_on(
    source: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    child = subprocess.Popen([sys.executable, "-c", CHILD, __file__, str(tmp_path)])
    try:
        while not (work / "inside").exists():
            assert child.poll() is None, "the child ended early"
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not (work / "02-mark1").exists()
    half = [path.name for path in work.iterdir() if path.name.startswith(".02-mark1-")]
    assert len(half) == 1
    (work / "inside").unlink()
    done = run_steps(
        [("mark0", Mark("a")), ("mark1", Mark("b"))], source, work, _task(source, tmp_path)
    )
    assert RUNS == ["b"]
    assert (done[-1].folder / "config.json").read_text() == "sab"
    assert sorted(path.name for path in work.iterdir()) == ["01-mark0", "02-mark1"]


def test_what_cannot_fit_is_said_before_the_first_step_runs(tiny: Path, tmp_path: Path) -> None:
    from featherdesk.compress.channels import PruneChannels
    from featherdesk.compress.export import ExportFast
    from featherdesk.compress.heads import PruneHeads
    from featherdesk.compress.layers import RemoveLayers
    from featherdesk.compress.vocabulary import TrimVocabulary

    RUNS.clear()
    for step, message in (
        (RemoveLayers(31), "remove 31 of 2 layers"),
        (PruneHeads(2), "keep 2 KV heads, the model has 2"),
        (PruneChannels(128), "keep 128 channels, the model has 128"),
        (ExportFast(finer=(40,)), "finer names layer 40; the model has layers 0 to 1"),
        (ExportFast(mixed=99), "mixed = 99, but the model has 2 layers"),
        (TrimVocabulary(320), "keep 320 tokens, the model has 320"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_steps(_steps(Mark("a"), step), tiny, tmp_path / "work", _task(tiny, tmp_path))
    with pytest.raises(ConfigError, match="remove 1 of 1 layers"):  # of what the first one leaves
        two = _steps(RemoveLayers(1), RemoveLayers(1))
        run_steps(two, tiny, tmp_path / "work", _task(tiny, tmp_path))
    assert RUNS == []
    assert not (tmp_path / "work").exists()

"""Texts at once: tiny real models, our batch and transformers in processes of their own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.serve import batches as module
from featherdesk.serve.at_once import Memory, Runtime, Transformers
from featherdesk.serve.batch_report import table, told, write_report
from featherdesk.serve.batches import Batches, Plan, Run
from featherdesk.serve.wanted import Wanted

from ..tiny_llama import TALKATIVE, make_llama
from .tiny_bot import ENTRIES, make_bot

ROWS = [[1, *range(10, 90)], [1, *range(90, 170)], [1, *range(170, 250)]]
READ = 70  # more than a chunk


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny seeded llama whose answers wander."""
    return make_llama(tmp_path_factory.mktemp("model"), 2, **TALKATIVE)


@pytest.fixture(scope="module")
def generator(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graph in floats."""
    from featherdesk.compress.export import Quantization, export

    folder = tmp_path_factory.mktemp("graph") / "generator"
    export(model, folder, Quantization("fp32"))
    return folder


@pytest.fixture(scope="module")
def bot(generator: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bot(tmp_path_factory.mktemp("bot") / "bot", encoder_folder, ENTRIES, generator)


def _runtime(generator: Path, **changed: Any) -> Runtime:
    told = {"folder": str(generator), "threads": 1, "device": "cpu", "rows": 3, "graphs": False}
    return Runtime(told | changed)


def _torch(model: Path, backend: str = "") -> Transformers:
    told = {"folder": str(model), "threads": 1, "device": "cpu", "backend": backend}
    return Transformers({**told, "compiled": bool(backend)})


def _chosen(generator: Path) -> tuple[tuple[int, ...], ...]:
    """What each text, read alone, makes likeliest."""
    alone = OnnxGenerator(generator, 1)
    return tuple(
        tuple(int(one) for one in alone.logits(row)[READ - 1 :].argmax(-1)) for row in ROWS
    )


def test_our_batch_chooses_what_each_text_alone_does(generator: Path) -> None:
    runtime = _runtime(generator)
    wanted = _chosen(generator)
    assert len({*wanted[0]}) > 5
    for rows in (ROWS, ROWS[:1], ROWS):  # and again in the places of others
        found = runtime.batch(rows, READ)
        assert found.chosen == wanted[: len(rows)]
        assert len(found.steps) == len(ROWS[0]) - READ
        assert found.prefill > 0
        assert min(found.steps) > 0
    assert _runtime(generator, graphs=True).batch(ROWS, READ).chosen == wanted


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    "backend", ["", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_transformers_is_fed_the_same_and_chooses_the_same(
    model: Path, generator: Path, backend: str
) -> None:
    """Compiled, its step is one graph; `aot_eager` traces it and needs no C++ compiler."""
    peer = _torch(model, backend)
    wanted = _chosen(generator)
    for rows in (ROWS, ROWS):  # a static cache is used again
        found = peer.batch(rows, READ)
        assert found.chosen == wanted
        assert len(found.steps) == len(ROWS[0]) - READ
    assert ("torch.compile, static cache" in peer.told().info) == bool(backend)


def test_sizes_are_what_a_step_reads(model: Path, generator: Path) -> None:
    ours, theirs = _runtime(generator).sizes(), _torch(model).sizes()
    assert ours["token"] == theirs["token"] == 2 * 2 * 2 * 16 * 4
    import torch
    from transformers import AutoModelForCausalLM

    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    head, table = 320 * 64 * 4, 320 * 64 * 4
    layers = sum(one.numel() for one in weights.model.layers.parameters()) * 4
    assert theirs["weights"] == layers + head + 64 * 4  # and the last norm
    assert ours["weights"] >= layers + head + table


def test_memory_is_copied_by_torch() -> None:
    found = Memory({"device": "cpu"}).copied(2**20)
    assert found["gb_a_second"] > 0


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_a_gpus_memory_is_not_taken_for_the_hosts(tmp_path: Path) -> None:
    with pytest.raises(FeatherdeskError, match=r"memory of the GPU: torch .* sees no NVIDIA GPU"):
        Wanted(tmp_path, device="cuda").copy_gb_a_second()


@pytest.fixture(scope="module")
def run(bot: Path, model: Path) -> Batches:
    wanted = Wanted(bot, threads=1, torch=True, torch_model=model, command="featherdesk bench")
    measured = Run(wanted, Plan((1, 2), 24, 8, 2, (), "aot_eager"))
    measured.run()
    return measured.outcome()


def test_all_sides_are_measured_in_one_run(run: Batches) -> None:
    names = ["runtime", "transformers, eager", "transformers, torch.compile, static cache"]
    assert list(run.sides) == names
    assert [(one.side, one.batch) for one in run.found] == [(n, b) for b in (1, 2) for n in names]
    assert run.copy_gb_a_second
    for one in run.found:
        assert one.prefill.of == one.decode.of == one.step_ms.of == 2
        assert one.prefill.low <= one.prefill.median <= one.prefill.high
        assert one.equal == 1.0
        past = 24 + 4.5
        size = 1e6 * run.weights_mb[one.side] + one.batch * past * 512
        assert one.gb_a_second == pytest.approx(size / one.step_ms.median / 1e6, rel=0.05, abs=0.01)
        assert one.share == pytest.approx(one.gb_a_second / run.copy_gb_a_second, rel=0.1, abs=0.01)
        assert (one.decode_times is None) == (one.side == "runtime")


def test_a_run_is_told_as_text_json_and_plot(run: Batches, tmp_path: Path) -> None:
    text = table(run)
    assert "  2 at once: prefill" in text
    assert "of the copy)" in text
    assert "100.0% of the tokens it chose are equal" in text
    write_report(tmp_path / "out", run)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"batches.json", "batches.png"}
    assert json.loads(told(run))["plan"]["batches"] == [1, 2]


def test_rows_are_cut_from_the_bots_own_prompts(bot: Path) -> None:
    prompts = module.gather(bot, None, 3).prompts
    texts = module._texts(prompts, 3, 40)
    assert {len(text) for text in texts} == {40}
    assert texts[0] == [*prompts[0].ids, *prompts[1].ids][:40]
    assert texts[0] != texts[1]


def test_a_graph_that_does_not_open_is_named(bot: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bot / "generator", broken)
    graph = broken / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    wanted = Wanted(bot, threads=1, command="featherdesk bench")
    with pytest.raises(FeatherdeskError, match="runtime, broken"):
        Run(wanted, Plan((1,), 24, 4, 1, (broken,))).run()


def test_the_command_measures_and_refuses(bot: Path, cli: Callable[..., Any]) -> None:
    small = ("--read", 16, "--write", 4, "--rounds", 1)
    done = cli("bench", bot, "--batches", "1,2", *small, "--json")
    assert done.returncode == 0, done.stderr
    assert [one["batch"] for one in json.loads(done.stdout)["found"]] == [1, 2]
    done = cli("bench", bot, "--batches", "1,x")
    assert done.returncode == 2
    assert "such as 1,8,32" in done.stderr
    done = cli("bench", bot, "--batches", "1", "--peer-genai")
    assert done.returncode == 2
    assert "--peer-torch alone" in done.stderr


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_without_a_gpu_what_is_missing_is_said(bot: Path, cli: Callable[..., Any]) -> None:
    done = cli("bench", bot, "--batches", "1,8,32", "--device", "cuda")
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr
    assert "featherdesk[gpu]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_evaluation_on_a_device_that_is_not_there(
    tiny_bot: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text('{"id": "a", "question": "How can I pay?", "entry_ids": ["pay"]}\n')
    done = cli("evaluate", tiny_bot, test, "--device", "cuda", "--against", "cpu")
    assert done.returncode == 2
    assert "no CUDA here: install featherdesk[gpu]" in done.stderr
    assert "Traceback" not in done.stderr
    done = cli("evaluate", tiny_bot, test, "--against", "cpu")
    assert done.returncode == 0, done.stderr
    assert "cpu against cpu" in done.stdout
    assert "differ: none" in done.stdout


@pytest.mark.needs_gpu
def test_a_gpu_measures_its_memory() -> None:
    assert Memory({"device": "cuda"}).copied()["gb_a_second"] > 50

"""The second graph of a generator folder: what it computes, and when it is opened."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from featherdesk.agent import sessions as opening
from featherdesk.agent.decoder import Decoder
from featherdesk.agent.errors import ArtifactError, FeatherdeskError
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.wide import (
    RAGGED,
    SLOTS,
    TABLE,
    WIDE,
    _in_bytes,
    restored_from,
    sums_bytes,
    widened,
)
from featherdesk.compress import wide
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.ragged import write_ragged
from numpy.typing import NDArray

from .conftest import kin

IDS = list(range(20, 70))


@pytest.fixture(scope="module")
def rounded(talkative: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wide") / "g"
    export(talkative, out, Quantization())
    return out


@pytest.fixture(autouse=True)
def opened_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened here whatever this processor is good at: it is slower without VNNI, not wrong."""
    monkeypatch.setattr(opening, "sums_bytes", lambda: True)


def logits(folder: Path, ids: Sequence[int] = IDS, **told: int) -> NDArray[np.float32]:
    decoder = Decoder(folder, 1)
    decoder.reserve(1, len(ids))
    return decoder.alone(0, ids, 0, **told).copy()


def test_the_head_is_computed_for_the_last_tokens_alone(rounded: Path) -> None:
    whole = logits(rounded)
    assert whole.shape == (50, whole.shape[1])
    for last in (1, 7, 50):
        assert np.array_equal(logits(rounded, last=last), whole[-last:])


def test_it_says_what_the_graph_of_blocks_says(
    rounded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = logits(rounded)
    monkeypatch.setattr(opening, "sums_bytes", lambda: False)
    exact = logits(rounded)
    assert not np.array_equal(fast, exact)
    assert np.abs(fast - exact).mean() < 0.05 * exact.std()


def test_a_token_is_read_alike_alone_and_among_others(rounded: Path) -> None:
    """Products of bytes are sums of integers, and a step stands for every pass."""
    decoder = Decoder(rounded, 1)
    decoder.reserve(1, len(IDS))
    alone = np.concatenate([decoder.alone(0, [one], at).copy() for at, one in enumerate(IDS[:8])])
    assert np.abs(alone - logits(rounded)[:8]).max() < 1e-4 * alone.std()


def test_without_instructions_for_bytes_the_graph_of_blocks_is_opened(
    rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "sums_bytes", lambda: False)
    (broken := tmp_path / "g").mkdir()
    shutil.copytree(rounded, broken, dirs_exist_ok=True)
    (broken / WIDE).write_bytes(b"never read")
    assert OnnxGenerator(broken, 1).logits(IDS).shape[0] == len(IDS)
    monkeypatch.setattr(opening, "sums_bytes", lambda: True)
    with pytest.raises(ArtifactError, match=r"wide\.onnx cannot be opened.*make it anew"):
        OnnxGenerator(broken, 1)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("fpu sse4_2 avx512_vnni", True), ("fpu avx_vnni", True), ("fpu avx2", False), (None, False)],
)
def test_processors_are_told_apart_by_their_flags(
    flags: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> str:
        if flags is None:
            raise FileNotFoundError  # as on another system
        return f"flags\t\t: {flags}\n"

    monkeypatch.setattr(Path, "read_text", read)
    assert sums_bytes() is wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told | {"of": 1}, "belongs to another model.onnx.data"),
        (lambda told: {"of": told["of"]}, "matrices"),
        (lambda told: told | {"matrices": [{"name": "x"}]}, "rows"),
    ],
)
def test_a_damaged_table_is_told(change: Any, said: str, rounded: Path, tmp_path: Path) -> None:
    shutil.copytree(rounded, tmp_path / "g")
    told = json.loads((tmp_path / "g" / TABLE).read_text())
    (tmp_path / "g" / TABLE).write_text(json.dumps(change(told)))
    with pytest.raises(ArtifactError, match=said):
        OnnxGenerator(tmp_path / "g", 1)


def test_one_that_a_model_does_not_bear_is_left_out(
    talkative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = export(talkative, tmp_path / "right", Quantization())
    monkeypatch.setattr(wide, "_ROOM", 60.0)  # steps so long that most of it becomes zero
    parity = export(talkative, tmp_path / "g", Quantization())
    assert not any((tmp_path / "g" / name).exists() for name in (WIDE, TABLE, RAGGED))
    assert parity.served >= right.served
    assert OnnxGenerator(tmp_path / "g", 1).logits(IDS).shape[0] == len(IDS)


def test_a_graph_for_crowds_that_tells_one_of_them_something_else_is_an_error(
    talkative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(out: Path, model: Any) -> None:
        write_ragged(out, model)
        graph = onnx.load(out / RAGGED, load_external_data=False)
        nodes = [node for node in graph.graph.node if node.op_type == "GroupQueryAttention"]
        told = {item.name: item for item in nodes[5].attribute}
        told["scale"].f *= 2
        (out / RAGGED).write_bytes(graph.SerializeToString())

    monkeypatch.setattr(wide, "write_ragged", wrong)
    with pytest.raises(FeatherdeskError, match="tells customer 6 something else"):
        export(talkative, tmp_path / "g", Quantization())
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("plan", [Quantization("fp32"), Quantization(provider="cuda")])
def test_floats_and_graphs_for_a_gpu_have_none(
    plan: Quantization, talkative: Path, tmp_path: Path
) -> None:
    export(talkative, tmp_path / "g", plan)
    assert not (tmp_path / "g" / WIDE).exists()


@pytest.mark.parametrize("kind", ["gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_products_of_bytes_in_every_architecture(kind: str, tiny: Path, tmp_path: Path) -> None:
    export(kin(kind, tiny, tmp_path / "m"), tmp_path / "g", Quantization())
    graph = onnx.load(tmp_path / "g" / WIDE, load_external_data=False).graph
    made = [node.name for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert {name.split("/")[-2] for name in made} >= {"gate_proj", "up_proj"}
    told = {node.name: {item.name: item.i for item in node.attribute} for node in graph.node}
    down = next(options for name, options in told.items() if "down_proj" in name)
    assert (down["bits"], down["block_size"] >= 64) == (8, True)
    assert logits(tmp_path / "g", IDS, last=2).shape[0] == 2
    decoder = Decoder(tmp_path / "g", 1)
    decoder.prepare(wait=True)
    assert decoder.slots == SLOTS
    decoder.reserve(SLOTS, len(IDS))
    told = decoder.several({row: (IDS[row:], 0, 3) for row in (1, 4, 6)})
    for row, rows in told.items():
        assert np.abs(rows - logits(tmp_path / "g", IDS[row:], last=3)).max() < 1e-4


@pytest.mark.parametrize(("columns", "length"), [(1536, 256), (1344, 256), (640, 128), (576, 64)])
def test_blocks_are_as_long_as_the_columns_fill(columns: int, length: int) -> None:
    node = onnx.helper.make_node("MatMulNBits", ["x", "b", "s", "z"], ["y"], bits=4, block_size=32)
    assert wide._lengthen(node, columns) == length
    assert {item.name: item.i for item in node.attribute} == {"bits": 8, "block_size": length}
    assert len(node.input) == 3


def test_longer_blocks_hold_the_weights_of_the_shorter_ones(rounded: Path) -> None:
    table = json.loads((rounded / TABLE).read_text())
    data = np.memmap(rounded / "model.onnx.data", np.uint8, "r")
    made = dict(widened(rounded))
    assert len(table["blocks"]) > 0
    for told in table["blocks"]:
        weight = restored_from(data, told)
        levels, scales = made[f"{told['name']}/blocks"], made[f"{told['name']}/scales"]
        held = (levels.astype(np.float32) - 128) * scales[..., None]
        assert held.shape[-1] == told["longer"]
        rows, columns = weight.shape
        off = np.abs(held.reshape(rows, -1)[:, :columns] - weight)
        assert off.max() <= 0.5001 * scales.max()


def test_channels_that_are_large_by_themselves_do_not_coarsen_the_others() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((64, 96)).astype(np.float32)
    matrix = rng.standard_normal((32, 96)).astype(np.float32)
    rows[:, :2] *= 100
    matrix[:, :2] /= 100
    most = np.abs(rows).max(0)

    def moved(exponents: NDArray[np.int32]) -> float:
        levels, steps = _in_bytes(np.ldexp(matrix, exponents))
        step = np.ldexp(most, -exponents).max() / 127
        got = np.rint(np.ldexp(rows, -exponents) / step) * step @ (levels * steps[:, None]).T
        return float(np.abs(got - rows @ matrix.T).mean() / np.abs(rows @ matrix.T).mean())

    exponents = wide._exponents(most, [matrix])
    assert all(6 <= exponent <= 7 for exponent in exponents[:2])
    assert abs(exponents[2:]).max() <= 1
    assert moved(exponents) < 0.02 < 0.2 < moved(np.zeros_like(exponents))

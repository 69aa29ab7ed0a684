"""Where a pass of the generator spends its time, and what the machine would allow.

    python tests/measure_profile.py BOT [--past 200] [--tokens 1 8 40 256] [--rounds 20]

For each number of tokens taken in at once behind `--past` others: milliseconds a pass (median, least);
beside them the bytes that a pass has to read (every weight once, keys and values of what came before)
over the bandwidth that a copy reaches here, below which no pass comes; and its operations (two a weight
and token, and those of attention) over what a matrix product reaches here, in fp32 (numpy) and of bytes
(onnxruntime's MatMulInteger), the best of five. The second graph multiplies bytes, so the latter is
its floor. Then, by onnxruntime's own profiler, the share of each kind of node. At last several customers
with ten tokens each, one after another and in one pass. Prints JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
from featherdesk.agent.cores import available_cores
from featherdesk.agent.decoder import Decoder
from featherdesk.agent.sessions import Opener
from featherdesk.agent.wide import SLOTS
from featherdesk.serve.machine import copy_gb_a_second
from onnx import TensorProto, helper, numpy_helper

_HELD = 3
"""Passes that warm up."""

_EACH = 10
"""Tokens that each of several customers brings."""


def weights(generator: Path) -> int:
    """Weights that every token is multiplied by: those of the matrices, the head's among them."""
    graph = onnx.load(str(generator / "model.onnx"), load_external_data=False).graph
    shapes = {one.name: list(one.dims) for one in graph.initializer}
    count = 0
    for node in graph.node:
        told = {one.name: one.i for one in node.attribute}
        if node.op_type == "MatMulNBits":
            count += told["K"] * told["N"]
        elif node.op_type in {"MatMul", "Gemm"} and node.input[1] in shapes:
            count += int(np.prod(shapes[node.input[1]]))
    return count


def peak(multiply: Callable[[], object], size: int) -> float:
    """Operations a second of a product of two square matrices, in units of 10^9."""
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - began)
    return round(2 * size**3 / best / 1e9, 1)


def fp32_peak(size: int = 1536) -> float:
    """What `peak` finds in fp32."""
    a, b = (np.random.default_rng(n).random((size, size), np.float32) for n in (1, 2))
    return peak(lambda: a @ b, size)


def int8_peak(threads: int, size: int = 1536) -> float:
    """What `peak` finds of bytes, the weights' signed and packed once, as the second graph has them."""
    numbers = np.random.default_rng(1)
    given = numbers.integers(0, 255, (size, size), np.uint8)
    kept = numbers.integers(-127, 127, (size, size), np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["given", "kept"], ["sums"])],
        "product",
        [helper.make_tensor_value_info("given", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [size, size])],
        [numpy_helper.from_array(kept, "kept")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return peak(lambda: session.run(None, {"given": given}), size)


def profiled(generator: Path, threads: int, prefix: Path) -> Decoder:
    """The decoder that serves, watched by onnxruntime's profiler."""
    plain = Opener._settings

    def watched(opener: Opener) -> Any:
        options = plain(opener)
        options.enable_profiling = True
        options.profile_file_prefix = str(prefix)
        return options

    with patch.object(Opener, "_settings", watched):
        return Decoder(generator, threads)


def taken(decoder: Decoder) -> Counter[str]:
    """Microseconds by kind of node."""
    events = json.loads(Path(decoder._session.end_profiling()).read_text())
    found: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"]] += event["dur"]
    return found


def times(decoder: Decoder, past: int, tokens: int, rounds: int) -> list[float]:
    """Milliseconds of each pass over so many tokens behind so many others."""
    decoder.reserve(1, past + tokens)
    told = []
    for _ in range(_HELD + rounds):
        began = time.perf_counter()
        decoder.alone(0, range(100, 100 + tokens), past)
        told.append(1000 * (time.perf_counter() - began))
    return told[_HELD:]


def shares(generator: Path, past: int, tokens: int, rounds: int) -> dict[str, float]:
    """The share (0..1) of the nodes' time that each kind of node takes, largest first."""
    with tempfile.TemporaryDirectory() as scratch:
        decoder = profiled(generator, available_cores(), Path(scratch) / "profile")
        times(decoder, past, tokens, rounds)
        found = taken(decoder)
    whole = sum(found.values())
    return {name: round(spent / whole, 3) for name, spent in found.most_common(6)}


def crowd(decoder: Decoder, past: int, tokens: int, rounds: int) -> dict[int, dict[str, float]]:
    """Milliseconds for so many customers with so many tokens each: one after another, and in one
    pass; nothing where no graph for that is opened."""
    decoder.prepare(wait=True)
    decoder.reserve(SLOTS, past + tokens)
    feed = (range(100, 100 + tokens), past, tokens)
    for row in range(SLOTS):
        decoder.alone(row, range(100, 100 + past), 0, last=1)
    found = {}
    for count in (2, 3, 4, 8) if decoder.slots else ():
        spent: dict[str, list[float]] = {"alone": [], "shared": []}
        for _ in range(_HELD + rounds):
            began = time.perf_counter()
            for row in range(count):
                decoder.alone(row, *feed[:2])
            between = time.perf_counter()
            decoder.several(dict.fromkeys(range(count), feed))
            spent["alone"].append(1000 * (between - began))
            spent["shared"].append(1000 * (time.perf_counter() - between))
        found[count] = {
            name: round(statistics.median(all_[_HELD:]), 2) for name, all_ in spent.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bot", type=Path)
    parser.add_argument("--past", type=int, default=200)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 8, 40, 256])
    parser.add_argument("--rounds", type=int, default=20)
    told = parser.parse_args()
    generator = told.bot / "generator"
    count, threads = weights(generator), available_cores()
    stored = sum(path.stat().st_size for path in generator.glob("model.onnx*")) / 1e6
    copied, floats, whole = copy_gb_a_second(threads), fp32_peak(), int8_peak(threads)
    decoder = Decoder(generator, threads)
    kept = decoder.bytes_a_token * told.past / 1e6
    shape = json.loads((generator / "genai_config.json").read_text())["model"]["decoder"]
    width = shape["num_hidden_layers"] * shape["num_attention_heads"] * shape["head_size"]
    rows = {}
    for tokens in told.tokens:
        spent = times(decoder, told.past, tokens, told.rounds)
        operations = tokens * (2 * count + 4 * width * (told.past + tokens / 2))
        rows[tokens] = {
            "ms": round(statistics.median(spent), 2),
            "ms_least": round(min(spent), 2),
            "ms_at_bandwidth": round((stored + kept) / copied, 2),
            "ms_at_fp32_peak": round(operations / floats / 1e6, 2),
            "ms_at_int8_peak": round(operations / whole / 1e6, 2),
            "shares": shares(generator, told.past, tokens, told.rounds),
        }
    report = {
        "generator_mb": round(stored, 1),
        "weights_a_token": count,
        "keys_and_values_mb": round(kept, 1),
        "copy_gb_a_second": copied,
        "fp32_gflops": floats,
        "int8_gops": whole,
        "threads": threads,
        "past": told.past,
        "passes": rows,
        "customers": crowd(decoder, told.past, _EACH, told.rounds),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

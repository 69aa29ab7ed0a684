"""The page of `bench`, drawn from a run of which nothing was measured."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.serve.bench_page import page, tone
from featherdesk.serve.bench_plots import draw
from featherdesk.serve.bench_report import SHOWN
from featherdesk.serve.crowd import Crowd
from featherdesk.serve.machine import Machine
from featherdesk.serve.outcome import Compared, Crowds, Floor, Outcome, Start
from featherdesk.serve.race import Figures
from featherdesk.serve.spreads import Ratio, Spread
from featherdesk.serve.sweep import Setting, Swept

LLAMA = "llama.cpp, no lookup, ram cache, 2 threads, batch 512"


def _spread(median: float, of: int = 120) -> Spread:
    return Spread(median, round(median * 0.7, 2), round(median * 1.6, 2), of)


def _side(name: str, kind: str, first: float, whole: float, rate: float, memory: float) -> Figures:
    none = Spread(0.0, 0.0, 0.0, 0)
    return Figures(
        name=name,
        kind=kind,
        about="onnxruntime 1.32.0, driven by featherdesk" if kind != "peer" else "CPU : AVX2 = 1",
        first_ms=_spread(first),
        whole_ms=_spread(whole),
        closed_ms=_spread(whole + 2),
        routing_ms=_spread(24.0) if kind == "served" else none,
        prefill=_spread(round(410_000 / first)),
        decode=_spread(rate) if rate else none,
        decode_all=rate,
        decode_behind=round(rate * 0.9, 1),
        characters=_spread(round(88_000 / whole)),
        tokens=_spread(24.0),
        prompt=_spread(412.0),
        tokens_a_step=2.3 if rate > 100 else 1.0,
        fed=61.4,
        joules=_spread(round(whole / 60, 2)),
        equal=None if kind == "served" else 0.96,
        hits=0.93 if name == "runtime" else None,
        stored=0.85 if name == "runtime" else None,
        resident_mb=memory,
        peak_mb=memory + 38,
        open_s=0.4,
    )


def _crowd(rate: float, p50: float, p95: float) -> Crowd:
    return Crowd(
        8, 160, 152, 50.0, rate, p50, p95, p50 / 2, p95 / 2, 3, 0, {}, 412.0, 436.0, 448.0, True
    )


def _compared(measure: str, ours: str, group: str, value: float) -> Compared:
    told = Ratio(value, round(0.92 * value, 3), round(1.09 * value, 3), 118)
    return Compared(measure, ours, group, LLAMA, told, replace(told, of=97))


def made_up() -> Outcome:
    """A plausible run, of which nothing was measured."""
    return Outcome(
        bot="acme shop",
        command="featherdesk bench bot --questions TEST.jsonl --peer gguf/gguf.gguf --users 8",
        created="2026-11-26 17:57 UTC",
        device="cpu",
        threads=2,
        machine=Machine(
            "Intel(R) Xeon(R) Processor", ("avx2", "avx512f", "avx512_vnni", "amx_int8"), 2,
            25277.0, 0.31, "Linux-6.18-x86_64", "3.11.7", {"featherdesk": "0.1.0", "numpy": "2.4"},
        ),
        asked=120,
        counted=118,
        left_out={"asked before": 1, "not the model's": 1, "several parts": 0},
        energy="estimate: CPU seconds x 10 W a core",
        start=Start(
            _spread(2.1, 3), _spread(6.4, 3), _spread(566.0, 3), _spread(1.9, 3), _spread(404.0, 3)
        ),
        sides=(
            _side("served", "served", 61.2, 214.8, 0.0, 431),
            _side("runtime", "ours", 34.1, 186.0, 164.0, 312),
            _side("runtime, no stored blocks", "ours", 118.9, 268.1, 162.4, 301),
            _side("runtime, no lookup", "ours", 34.9, 301.7, 88.2, 312),
            _side("runtime, neither", "ours", 121.0, 388.8, 87.6, 301),
            _side("runtime, short prompt", "short", 28.8, 171.3, 166.0, 309),
            _side(LLAMA, "peer", 402.3, 712.5, 74.6, 268),
            _side("onnxruntime-genai", "peer", 512.7, 851.0, 69.3, 344),
        ),
        ratios=tuple(
            _compared(measure, ours, group, value * (0.8 if ours == "served" else 1.0))
            for measure, value in (("whole", 3.83), ("first", 9.8), ("decode", 1.62))
            for ours in (("served", "runtime") if measure != "decode" else ("runtime",))
            for group in ("llama.cpp", "onnxruntime-genai")
        ),
        sweep=(
            Swept(Setting(False, "ram", 2), 402.3, 712.5, 74.6),
            Swept(Setting(True, "prefix", 2, 512, True), 466.0, 733.9, 81.2),
            Swept(Setting(True, "off", 1), failed="its process ended with 3"),
        ),
        chosen={"first": LLAMA, "whole": LLAMA},
        crowds=Crowds(
            8, (_crowd(7.1, 980, 1890), _crowd(7.4, 940, 1810)),
            (_crowd(1.4, 5600, 6100), _crowd(1.5, 5400, 5900)), LLAMA, _spread(7.2, 2),
            Spread(5.0, 4.8, 5.2, 2), 61.4, 1.9, 8.6, 0.84, 4.5,
        ),
        floor=Floor(57.4, 11.2, 5.13, {"1": 6.1, "8": 11.9, "64": 61.0}),
        notes=("llama.cpp was asked without its server.",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> str:
    return page(made_up())


def test_every_section_and_figure_stands_on_the_page(drawn: str) -> None:
    for name in ("bars", "ratios", "sides", "figures", "start", "users", "sweep", "floor"):
        assert f"<section id='{name}'>" in drawn
        assert f"<a href='#{name}'>" in drawn
    for one in SHOWN:
        assert f"<td>{one.name}" in drawn


def test_what_was_not_measured_has_no_section() -> None:
    run = replace(made_up(), sides=(), ratios=(), sweep=(), crowds=None, floor=None, start=None)
    told = page(run)
    assert re.findall(r"<section id='(\w+)'", told) == ["method"]


def test_names_are_escaped() -> None:
    told = page(replace(made_up(), bot="<script>", stopped="<i>", notes=("<b>&",)))
    assert "<script>" not in told
    assert "stopped early: &lt;i&gt;" in told
    assert "&lt;b&gt;&amp;" in told


def test_sides_are_told_apart_by_colour() -> None:
    tones = {side.name: tone(side) for side in made_up().sides}
    assert tones["served"] == tones["runtime"] == "result"
    assert tones[LLAMA] == "base"
    assert tones["runtime, no lookup"] == "plain"


def test_sides_are_drawn_as_a_picture(tmp_path: Path) -> None:
    assert draw(made_up(), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000
    assert not draw(replace(made_up(), sides=()), tmp_path / "none.png")

import re
from dataclasses import replace
from pathlib import Path

import pytest
from featherdesk.agent.errors import InputError
from featherdesk.compress.answers import Quality
from featherdesk.compress.figures import FIGURES
from featherdesk.compress.measured import Crowd, Measured, Spread
from featherdesk.compress.page import against, page, pareto_points, tone
from featherdesk.compress.pareto import dominates, front
from featherdesk.compress.plots import draw
from featherdesk.compress.probe import Timed
from featherdesk.compress.report import Change, RunReport, Stage, load, write_report

MEASURING = "python -m featherdesk.compress.measure work/02-heal/int4 HELD.jsonl --users 8"


def _spread(median: float, of: int = 60) -> Spread:
    return Spread(round(median, 2), round(median * 0.8, 2), round(median * 1.35, 2), of)


def measured(name: str, size: float, speed: float, correct: float, chrf: float) -> Measured:
    """Made up: `speed` is that of the unpruned int4 export at 1."""
    return Measured(
        generator=name,
        size_mb=size,
        bare_mb=62.0,
        resident_mb=70 + size * 1.25,
        peak_mb=96 + size * 1.6,
        load_s=0.6,
        first_token_ms=_spread(330 / speed),
        prefill=_spread(600 * speed),
        decode=_spread(112 * speed),
        characters=_spread(152 * speed),
        crowd=Crowd(
            8, _spread(2300 / speed, 24), _spread(570 * speed, 3), _spread(109 * speed, 3),
            _spread(149 * speed, 3),
        ),
        quality=Quality(46, 14, correct, correct - 0.13, 0.93, 0.02, chrf - 22, (chrf - 6) / 100, chrf),
        perplexity=1.2 + (0.95 - correct) * 2,
        nats_per_character=0.041 + (0.95 - correct) / 4,
        joules=_spread(16 / speed),
        energy="estimate: CPU seconds x 10 W a core",
        questions=60,
        threads=2,
        seconds=812.0,
        command=MEASURING,
        timed=(Timed("public-0.0", "a secret sentence", 100, 9, 0.3, 0.5, 4.0),),
    )  # fmt: skip


def made_up() -> RunReport:
    """A plausible run, of which nothing was measured."""
    layers = [11, 21, 20, 12, 24, 18]
    return RunReport(
        name="balanced",
        model="smollm2-135m-instruct + grounded",
        recipe="models/recipes/balanced.toml",
        command="featherdesk compress parent --recipe balanced --out small",
        machine="2 cores x86-64 with AVX-512, 8 GB",
        created="2025-11-26",
        stages=(
            Stage("vocabulary", "prune", {"size": 16384}, {"tokens": 16384, "of": 49152, "longer": 0.062}, 24.0, measured("v", 71.2, 1.04, 0.928, 83.0), "featherdesk prune parent --vocabulary 16384 --out work/01-vocabulary"),
            Stage("layers", "prune", {"remove": 6, "by": "answers"}, {"removed": layers, "layers": 24}, 402.0, measured("l", 58.1, 1.41, 0.512, 55.0), "featherdesk prune work/01-vocabulary --layers 6 --out work/02-layers"),
            Stage("heal", "heal", {"tokens": 1500000, "bits": 4, "learning_rate": 0.0003}, {"steps": 293, "tokens_per_s": 151, "before": {"divergence": 1.91}, "after": {"divergence": 0.07}}, 9900.0, measured("h", 58.1, 1.42, 0.921, 81.6), "featherdesk distill work/02-layers --parent parent --out work/03-heal"),
            Stage("export", "export", {"precision": "int4", "block_size": 32}, {"agreement": 0.94}, 41.0, measured("e", 57.4, 1.45, 0.919, 81.5), "featherdesk export work/03-heal --out small/generator"),
        ),
        unpruned=measured("u", 92.2, 1.0, 0.932, 83.4),
        fp32=measured("f", 542.0, 0.19, 0.936, 83.9),
        fp32_mb=542.0,
        fetched_mb=98.36,
        stored_mb=56.8,
        stored_before_mb=90.8,
        techniques=tuple(
            Stage(name, "technique", {}, {}, seconds, measured(name, *figures))
            for name, seconds, figures in (
                ("vocabulary alone", 24, (71.2, 1.04, 0.928, 83.0)),
                ("layers alone, healed", 9800, (78.8, 1.3, 0.924, 82.2)),
                ("int8 head", 40, (99.1, 0.93, 0.935, 83.7)),
                ("FFN channels", 5200, (74.0, 1.18, 0.90, 79.2)),
            )
        ),
        gate={
            "verdict": "passed",
            "reasons": ["every upper bound of a loss lies under 2 points"],
            "measures": {
                "correct_raw": {"parent": 0.921, "artefact": 0.915, "estimate": 0.6, "lower": -0.5, "upper": 1.7},
                "correct_sent": {"parent": 0.953, "artefact": 0.951, "estimate": 0.2, "lower": -0.5, "upper": 0.9},
                "right_entry": {"parent": 0.974, "artefact": 0.974, "loss": 0.0, "upper": 0.2},
                "refusals": {"parent": 0.93, "artefact": 0.934, "estimate": -0.4, "lower": -1.5, "upper": 0.7},
                "fallback_share": {"parent": 0.031, "artefact": 0.036, "estimate": 0.5, "lower": -0.1, "upper": 1.1},
            },
            "failed": [f"shop-{n:03}" for n in range(7, 90, 9)],
            "margins": {"loss": 2.0, "estimate": 1.0, "fallback": 2.0},
        },
        damage={
            "by kind": {
                kind: {"vocabulary": a, "layers": b, "heal": c, "export": c + 0.2}
                for kind, a, b, c in (("plain", 0.1, 31.0, 0.4), ("typing mistakes", 0.9, 44.0, 1.9), ("follow-up", 0.3, 52.0, 2.6), ("near miss", -0.4, 12.0, -0.8), ("two at once", 0.2, 61.5, 3.4))
            },
            "by layer": {f"layer {n}": {"int4": round(3.1 / (1 + abs(n - 3)) - 0.2, 2), "int8": 0.1} for n in range(8)},
        },
        changes=(
            Change("returns-12.0", "You can return unworn boots within 30 days. A refund takes 5 working days.", "You can return unworn boots within 14 days. A refund takes 5 working days.", True, False, True),
            Change("delivery-3.1", "Delivery takes 3 to 5 working days and costs £4.95.", "Sorry, the FAQ does not say.", True, False, True),
            Change("public-0.0", "a secret sentence", "another secret sentence", True, False, False),
            Change("hours-2.0", "We are open from 9:30 to 18:00.", "We open from 9:30 to 18:00, Monday to Saturday.", True, True, True),
        ),
        commands={
            "gate": "featherdesk gate parent-bot small-bot --data models/sample/test.jsonl",
            "damage": "featherdesk gate parent-bot small-bot --data models/sample/test.jsonl --damage",
            "changes": MEASURING,
            "techniques": "python -m featherdesk.compress.measure vocabulary layers head channels HELD.jsonl",
        },
        notes=("The margins are the default ones.",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "report"
    write_report(out, made_up())
    return out


def test_page_data_and_plots_are_written(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {
        "report.json",
        "report.html",
        "steps.png",
        "pareto.png",
        "gate.png",
        "damage.png",
    }


def test_the_page_holds_no_outside_address(written: Path) -> None:
    html = (written / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", html)
    assert not re.findall(r"<(?:script|link|img|iframe)\b|@import|url\(", html)
    addresses = re.findall(r"(?:href|src)='?\"?([^'\"> ]+)", html)
    assert {a for a in addresses if not a.startswith("#")} == {"report.json"}


def test_every_figure_of_the_issue_stands_on_the_page(written: Path) -> None:
    html = (written / "report.html").read_text(encoding="utf-8")
    for figure in FIGURES:
        assert figure.name.format(users=8) in html
    for wanted in ("0.62×", "[0.11× of fp32, 542.0\u00a0MB]", "0.58× of the fetched 98 MB"):
        assert wanted in html
    assert "of the fetched" not in page(replace(made_up(), fetched_mb=0.0))
    for command in (MEASURING, "featherdesk gate parent-bot", "featherdesk export work/03-heal"):
        assert command in html
    assert "gate: passed" in html
    assert html.count("class='card change'") == 4


def test_entries_read_beforehand_count_in_the_size() -> None:
    html = page(made_up())
    assert "57.4 MB</b> (and 56.8 MB of entries read beforehand) instead of 92.2 MB" in html
    assert "with the entries it read beforehand 114.2\u00a0MB, before 183.0\u00a0MB" in html
    assert "read beforehand" not in page(replace(made_up(), stored_mb=0.0))


def test_every_chart_names_the_command_that_made_it(written: Path) -> None:
    html = (written / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r"<figure class='wide'>.*?</figure>", html, re.DOTALL)
    assert len(figures) == 5
    assert all(re.search(r"<figcaption><code>[^<]+</code>", one) for one in figures)


def test_wider_margins_are_told_in_words() -> None:
    run = made_up()
    assert run.gate is not None
    assert "Margins in points: loss 2, estimate 1, fallback 2.</p>" in page(run)
    margins = {"loss": 3.0, "estimate": 2.0, "fallback": 2.0, "wider": True}
    html = page(replace(run, gate={**run.gate, "margins": margins}))
    assert "loss 3, estimate 2, fallback 2. They are wider than the default" in html
    html = page(replace(run, gate={**run.gate, "margins": {**margins, "wider": False}}))
    assert "wider than the default" not in html


def test_text_of_rows_that_are_not_ours_is_written_nowhere(written: Path) -> None:
    for path in (written / "report.json", written / "report.html"):
        text = path.read_text(encoding="utf-8")
        assert "secret" not in text
        assert "public-0.0" in text


def test_a_report_is_loaded_and_drawn_again(written: Path, tmp_path: Path) -> None:
    run = load(written)
    assert run == load(written / "report.json")
    assert run.stages[1].told["removed"] == [11, 21, 20, 12, 24, 18]
    assert run.result == replace(made_up().stages[-1].measured, timed=())  # type: ignore[type-var]
    write_report(tmp_path / "again", run)
    again = (tmp_path / "again" / "report.html").read_bytes()
    assert again == (written / "report.html").read_bytes()


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"schema": 1, "name": "x"}'])
def test_what_is_no_report_is_said_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"report\.json: is (no|the) report"):
        load(tmp_path)
    with pytest.raises(InputError, match="no report there"):
        load(tmp_path / "missing")


def test_names_are_escaped() -> None:
    html = page(replace(made_up(), name="<script>alert(1)</script>", notes=("<b>&",)))
    assert "<script>" not in html
    assert "&lt;b&gt;&amp;" in html


def test_a_run_with_nothing_but_its_steps_has_a_page(tmp_path: Path) -> None:
    stages = tuple(replace(stage, measured=None) for stage in made_up().stages)
    run = RunReport("bare", "m", "r", "featherdesk compress m", "x86", "today", stages)
    write_report(tmp_path / "report", run)
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "not gated" in html
    assert "Nothing was measured." in html
    assert not list((tmp_path / "report").glob("*.png"))


def test_a_failed_report_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: RunReport, folder: Path) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("featherdesk.compress.plots.draw", broken)
    with pytest.raises(Exception, match="cannot be written: No space left"):
        write_report(tmp_path / "report", made_up())
    assert not list(tmp_path.iterdir())


def test_refused_and_undecided_are_told_apart() -> None:
    run = made_up()
    assert run.gate is not None
    refused = replace(run, gate={**run.gate, "verdict": "refused", "reasons": ["wrong end token"]})
    html = page(refused)
    assert "pill refused" in html
    assert "wrong end token" in html
    assert "pill undecided" in page(replace(run, gate={**run.gate, "verdict": "undecided"}))


def test_better_and_worse_follow_the_figure() -> None:
    known = {figure.key: figure for figure in FIGURES}
    assert tone(known["size"], 50, 90) == "good"
    assert tone(known["decode"], 50, 90) == "bad"
    assert tone(known["size"], 90, 90.5) == ""
    assert against(known["size"], 45, 90) == "0.50×"
    assert against(known["correct"], 0.91, 0.93) == "−2.0 points"
    assert against(known["bleu"], 60.5, 60.0) == "+0.5"
    assert against(known["size"], None, 90) == ""


def test_the_front_holds_what_nothing_beats() -> None:
    assert front([(1, 5), (2, 2), (3, 3), (5, 1), (2, 2)]) == [0, 1, 3, 4]
    assert dominates((1, 1), (1, 2))
    assert not dominates((1, 1), (1, 1))
    points = pareto_points(made_up(), FIGURES[0])
    marked = {point.name for point in points if point.front}
    assert "int4, unpruned" in marked
    assert "layers" not in marked


def test_what_falls_on_one_point_is_drawn_once_with_both_names() -> None:
    run = made_up()
    last = run.stages[-1]
    twice = replace(run, stages=(*run.stages, replace(last, name="again")))
    points = pareto_points(twice, FIGURES[0])
    assert len({(point.x, point.y) for point in points}) == len(points)
    assert [point.tone for point in points if point.name.endswith("again")] == ["result"]


def test_long_damage_maps_show_the_worst_rows(tmp_path: Path) -> None:
    rows = {f"entry {n}": {"heal": float(n)} for n in range(40)}
    html = page(replace(made_up(), damage={"by entry": rows}))
    assert "entry 39" in html
    assert "entry 3<" not in html
    assert "16 more in report.json" in html


def test_plots_of_nothing_are_none(tmp_path: Path) -> None:
    run = RunReport("bare", "m", "r", "c", "x86", "today", ())
    assert draw(run, tmp_path) == []

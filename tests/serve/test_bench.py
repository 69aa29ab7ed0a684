import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.errors import ArtifactError, ConfigError, FeatherdeskError, InputError
from featherdesk.serve.bench_report import table, write_report
from featherdesk.serve.child import command_of
from featherdesk.serve.measurement import Measurement
from featherdesk.serve.outcome import Outcome
from featherdesk.serve.wanted import Wanted

from ..compress.conftest import bot_of
from ..tiny_llama import TALKATIVE, make_llama, make_tokenizer
from .tiny_bot import ENTRIES, SAYS, make_bot, make_generator

FAKE = [sys.executable, str(Path(__file__).with_name("fake_peer.py"))]
CLI = [sys.executable, "-m", "featherdesk.agent.cli", "bench"]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def _command(kind: str) -> list[str]:
    return FAKE if kind == "llama" else command_of(kind)


def _model(folder: Path, bot: Path, **told: object) -> Path:
    """A file that stands for a GGUF."""
    tokenizer = str(bot / "generator" / "tokenizer.json")
    path = folder / "model.gguf"
    path.write_text(json.dumps({"tokenizer": tokenizer, "says": SAYS, **told}))
    return path


def _wanted(bot: Path, peer: Path | None = None, **changed: Any) -> Wanted:
    told: dict[str, Any] = {"limit": 4, "starts": 0, "page": False, "swept": 2}
    return Wanted(
        bot, peer=peer, command="featherdesk bench bot", command_of=_command, **(told | changed)
    )


@pytest.fixture(scope="module")
def run(tiny_bot: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    peer = _model(tmp_path_factory.mktemp("peer"), tiny_bot)
    measurement = Measurement(_wanted(tiny_bot, peer, starts=1, users=2))
    measurement.run()
    return measurement.outcome()


def test_all_sides_are_measured_in_one_run(run: Outcome) -> None:
    kinds = {one.name: one.kind for one in run.sides}
    assert kinds["served"] == "served"
    ours = [name for name, kind in kinds.items() if kind == "ours"]
    assert ours == [
        "runtime",
        "runtime, no stored blocks",
        "runtime, no lookup",
        "runtime, neither",
    ]
    assert kinds["runtime, short prompt"] == "short"
    assert run.counted == run.asked == 4
    for side in run.sides:
        assert side.equal == 1.0
        assert side.whole_ms.of == 4
        assert 0 < side.first_ms.median <= side.whole_ms.median
        assert side.resident_mb > 0
    assert {one["side"] for one in run.answers} == set(kinds)


def test_what_the_store_and_the_lookup_bring_stands_apart(run: Outcome) -> None:
    sides = {one.name: one for one in run.sides}
    assert sides["runtime"].hits == sides["runtime"].stored == 1.0
    assert sides["runtime, no stored blocks"].hits is None
    assert sides["runtime, no stored blocks"].stored is None
    assert sides["runtime"].tokens_a_step > sides["runtime, no lookup"].tokens_a_step == 1.0
    assert sides["runtime"].fed < sides["runtime, no stored blocks"].fed
    assert any("keys and values of entries take" in note for note in run.notes)
    assert sides["runtime, short prompt"].prompt.median <= sides["runtime"].prompt.median


def test_the_peers_fastest_settings_are_compared(run: Outcome) -> None:
    assert "lookup" in run.chosen["decode"]
    assert run.chosen["first"].startswith("no lookup, ram cache")
    assert len(run.sweep) >= 6
    peers = [one.name for one in run.sides if one.kind == "peer"]
    assert len(peers) == len(set(run.chosen.values()))
    ratios = {(one.measure, one.ours): one for one in run.ratios}
    whole = ratios["whole", "runtime"]
    assert whole.all is not None
    assert whole.equal is not None
    assert (whole.all.of, whole.equal.of) == (4, 4)
    assert whole.all.value > 1  # the made-up peer takes a fifth of a second
    assert ("decode", "served") not in ratios


def test_users_start_and_floor_are_measured(run: Outcome) -> None:
    assert run.start is not None
    assert run.start.api_ready_s.of == 1
    assert run.start.page_s.of == 0
    crowds = run.crowds
    assert crowds is not None
    assert len(crowds.ours) == len(crowds.peer) == 3
    assert all(one.model == one.answers == 24 for one in crowds.ours)
    assert crowds.times is not None
    assert crowds.mb_a_user is not None
    assert crowds.mb_a_user < 60
    assert crowds.ceiling == pytest.approx(1000 / (crowds.fed * crowds.best_ms), rel=0.1)
    middle = statistics.median(one.answers_a_second for one in crowds.ours)
    assert crowds.share == pytest.approx(middle / crowds.ceiling, rel=0.1)
    assert run.floor is not None
    assert run.floor.token_ms > 0


def test_few_questions_make_no_claim(run: Outcome) -> None:
    verdicts = {bar.name: bar.verdict for bar in run.bars}
    assert verdicts["whole answer, served against llama.cpp"] == "too few questions (4 of 100)"


def test_a_report_opens_offline_and_holds_no_text(run: Outcome, tmp_path: Path) -> None:
    write_report(tmp_path / "out", run)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "bench.json",
        "bench.html",
        "bench.png",
    }
    page = (tmp_path / "out" / "bench.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    assert "<script" not in page
    assert "featherdesk bench bot" in page
    assert "AVX2 = 1" in page  # what the peer was built for
    told = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert told["machine"]["cores"] >= 1
    assert told["bars"]
    written = json.dumps(told) + page
    assert SAYS not in written
    assert not any(text in written for entry in ENTRIES for text in entry.variants)


def test_the_table_tells_every_side(run: Outcome) -> None:
    told = table(run)
    for side in run.sides:
        assert side.name in told
    assert "times as fast as llama.cpp" in told


def test_onnxruntime_genai_and_transformers_take_part(tmp_path: Path) -> None:
    """The real ones, on a real graph and the model it was made of."""
    from featherdesk.compress.export import Quantization, export

    told = {**TALKATIVE, "max_position_embeddings": 4096}
    model = make_llama(tmp_path / "model", 2, **told)
    export(model, tmp_path / "g", Quantization("fp32"))
    bot = bot_of(model, tmp_path / "g", tmp_path / "bot")
    wanted = _wanted(bot, limit=2, genai=True, torch=True, torch_model=model)
    measurement = Measurement(wanted)
    measurement.run()
    names = {
        "onnxruntime-genai, as it comes",
        "onnxruntime-genai, 1 threads",
        "transformers, 1 threads",
    }
    answers = measurement.race.answers
    ours = [one.text for one in answers["runtime"]]
    assert len(ours) == 2
    assert all(ours)
    assert names <= set(answers)
    for name in names:
        assert [one.text for one in answers[name]] == ours
        assert all(0 < one.first < one.whole for one in answers[name])
    about = {one.name: one.about for one in measurement.outcome().sides}
    assert "eager" in about["transformers, 1 threads"]


def test_a_gguf_of_another_vocabulary_is_refused(tiny_bot: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    other = json.loads(make_tokenizer().to_str())
    words = other["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    Tokenizer.from_str(json.dumps(other)).save(str(tmp_path / "tokenizer.json"))
    peer = _model(tmp_path, tiny_bot, tokenizer=str(tmp_path / "tokenizer.json"))
    with pytest.raises(ArtifactError, match=r"another vocabulary.*--format gguf --kind Q4_0"):
        Measurement(_wanted(tiny_bot, peer)).run()


def test_a_gguf_of_other_weights_is_refused_unless_it_is_meant(
    tiny_bot: Path, tmp_path: Path
) -> None:
    peer = _model(tmp_path, tiny_bot, says="Sorry")
    with pytest.raises(ArtifactError, match=r"other weights.*0% are alike"):
        Measurement(_wanted(tiny_bot, peer)).run()
    measurement = Measurement(_wanted(tiny_bot, peer, other_weights=True, swept=0, limit=1))
    measurement.run()
    found = measurement.outcome()
    assert any("holds other weights" in note for note in found.notes)
    assert next(one for one in found.sides if one.kind == "peer").equal == 0.0
    assert next(one for one in found.ratios if one.ours == "runtime").equal is None


def test_a_peer_that_dies_leaves_what_was_found(tiny_bot: Path, tmp_path: Path) -> None:
    peer = _model(tmp_path, tiny_bot, dies=3)
    measurement = Measurement(_wanted(tiny_bot, peer, other_weights=True, swept=0))
    with pytest.raises(FeatherdeskError, match="its process ended with 3"):
        measurement.run()
    assert measurement.found
    told = measurement.outcome("it died")
    assert told.asked == 2
    assert "STOPPED EARLY: it died" in table(told)


def test_what_is_wrong_is_said_before_anything_runs(
    tiny_bot: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    with pytest.raises(InputError, match=r"no\.gguf: no such file; make it with .*--kind Q4_0"):
        Measurement(_wanted(tiny_bot, tmp_path / "no.gguf")).run()
    with pytest.raises(ConfigError, match="--users"):
        Measurement(_wanted(tiny_bot, seconds=3.0)).run()
    with pytest.raises(ArtifactError, match=r"--format huggingface.*--torch-model"):
        Measurement(_wanted(tiny_bot, torch=True)).run()
    none = make_bot(tmp_path / "bot", encoder_folder, ENTRIES, None)
    with pytest.raises(ArtifactError, match="has no generator"):
        Measurement(_wanted(none)).run()


def test_no_folder_but_a_report_is_replaced(tiny_bot: Path, cli: Cli) -> None:
    before = sorted(tiny_bot.rglob("*"))
    done = cli("bench", tiny_bot, "--out", tiny_bot)
    assert done.returncode == 1
    assert "name another place" in done.stderr
    assert sorted(tiny_bot.rglob("*")) == before


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_without_a_gpu_cuda_says_what_is_missing(tiny_bot: Path, cli: Cli) -> None:
    done = cli("bench", tiny_bot, "--device", "cuda")
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr
    assert "featherdesk[gpu]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_come_up_is_told(
    tmp_path: Path, encoder_folder: Path, cli: Cli
) -> None:
    generator = make_generator(tmp_path / "generator")
    bot = make_bot(tmp_path / "bot", encoder_folder, ENTRIES, generator)
    told = json.loads((bot / "manifest.json").read_text())
    told["gate"] = {"verdict": "refused", "reasons": ["it loops"]}
    (bot / "manifest.json").write_text(json.dumps(told))
    done = cli("bench", bot, "--limit", "1", "--starts", "1", "--no-page")
    assert done.returncode == 1
    assert "the server ended at its start" in done.stderr
    assert "it loops" in done.stderr
    assert done.stdout == ""


def test_the_command_prints_json_and_writes_no_store(tiny_bot: Path, cli: Cli) -> None:
    done = cli("bench", tiny_bot, "--limit", "2", "--starts", "0", "--no-page", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stopped"] == ""
    assert told["counted"] == 2
    assert told["command"].startswith("featherdesk bench")
    assert next(one["name"] for one in told["sides"]) == "served"
    assert not (tiny_bot.parent / "conversations.db").exists()


def test_an_interrupted_run_ends_its_children_and_tells_what_it_found(
    tiny_bot: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [*CLI, str(tiny_bot), "--limit", "1", "--starts", "999", "--no-page", "--json"]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    marks = _servers_seen(process.pid, 2)
    time.sleep(1)  # until the run knows of it
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    told = json.loads(said)
    assert told["stopped"] == "interrupted"
    assert (out / "bench.html").exists()
    assert "Traceback" not in errors
    assert not [pid for pid in marks if _alive(pid)]


def _servers_seen(pid: int, count: int) -> set[int]:
    """All children of a process until so many servers have come."""
    seen: dict[int, bool] = {}
    until = time.monotonic() + 600
    while sum(seen.values()) < count:
        assert time.monotonic() < until, "it started no servers"
        for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):
                command = Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")
                seen[int(one)] = b"serve" in command
        time.sleep(0.05)
    return set(seen)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

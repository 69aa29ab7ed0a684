import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from featherdesk.agent.errors import ArtifactError, ConfigError, FeatherdeskError
from featherdesk.agent.prompt import REFUSAL
from featherdesk.agent.types import Entry
from featherdesk.compress import dataset, measure
from featherdesk.compress.answers import Answer, Asked, asked_of, quality, worst
from featherdesk.compress.dataset import Question, Row
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.measured import Measured, figure, ratio
from featherdesk.compress.probe import Probe, Timed
from tokenizers import pre_tokenizers

ENTRY = Entry("delivery", "How long does delivery take?", "Delivery takes 3 days and costs £4.95.")
ROWS = (
    Row(
        (ENTRY,),
        (
            Question("when will it come", "Delivery takes 3 days and costs £4.95."),
            Question("how much is delivery", "Delivery costs £4.95."),
        ),
        "delivery",
        "topics",
    ),
    Row((ENTRY,), (Question("who founded you", REFUSAL),), "founder", "topics"),
)


def _answer(text: str, target: str) -> Answer:
    return Answer(Asked("x", ROWS[0], Question("?", target)), text)


@pytest.fixture(scope="module")
def talker(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, made to write nothing but printed bytes: it never ends a turn."""
    import torch
    from transformers import AutoModelForCausalLM

    out = tmp_path_factory.mktemp("talker") / "model"
    shutil.copytree(tiny, out)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    printed = [
        n
        for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 3)
        if letter.isascii()
    ]
    silent = [n for n in range(320) if n not in printed]
    with torch.no_grad():
        model.get_input_embeddings().weight[silent] = 0.0
    model.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def generator(talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("measured") / "generator"
    export(talker, out, Quantization(precision="fp32"))
    return out


@pytest.fixture(scope="module")
def pair(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    other = tmp_path_factory.mktemp("measured") / "other"
    other.mkdir()
    for path in generator.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "notes.bin").write_bytes(b"x" * 1_000_000)
    return measure.compare(
        [generator, other], ROWS, threads=1, limit=6, questions=0, users=2, progress=False
    )


def test_every_figure_of_the_report_is_measured(pair: list[Measured], generator: Path) -> None:
    told = pair[0]
    weight = sum(path.stat().st_size for path in generator.iterdir())
    assert told.size_mb == pytest.approx(weight / 1e6, abs=0.01)
    assert 0 < told.bare_mb <= told.resident_mb <= told.peak_mb
    assert told.questions == told.first_token_ms.of == told.joules.of == 3
    for spread in (told.first_token_ms, told.prefill, told.decode, told.characters, told.joules):
        assert 0 < spread.low <= spread.median <= spread.high
    assert told.crowd is not None
    assert told.crowd.users == 2
    assert told.crowd.first_token_ms.of == 2
    assert told.crowd.prefill.median > 0
    assert told.crowd.decode.median > 0
    assert told.perplexity > 1
    assert told.nats_per_character > 0
    assert "estimate" in told.energy or "RAPL" in told.energy
    assert told.quality.answers == 2
    assert told.quality.refusals == 1


def test_the_second_of_two_equal_folders_answers_the_same(pair: list[Measured]) -> None:
    one, other = pair
    assert [t.text for t in one.timed] == [t.text for t in other.timed]
    assert one.perplexity == other.perplexity
    assert other.size_mb == pytest.approx(one.size_mb + 1, abs=0.02)


def test_a_ratio_is_of_the_same_questions(pair: list[Measured]) -> None:
    def timed(name: str, first: float) -> Timed:
        return Timed(name, "abcd", 1, 2, first, 2 * first, 0.0)

    base = replace(pair[0], timed=(timed("a", 1.0), timed("b", 4.0)))
    half = replace(pair[0], timed=(timed("b", 2.0), timed("a", 0.5), timed("c", 9.0)))
    told = ratio(half, base, "first")
    assert (told.median, told.low, told.high, told.of) == (0.5, 0.5, 0.5, 2)
    assert ratio(half, base, "rate").median == 2.0
    assert figure(base.timed[0], "whole") == 2.0
    with pytest.raises(ConfigError, match="share no question"):
        ratio(replace(half, timed=()), base, "first")


def test_what_was_measured_is_read_back_from_json(pair: list[Measured]) -> None:
    assert Measured.of(json.loads(json.dumps(asdict(pair[0])))) == pair[0]


def test_answers_stand_beside_their_rows(pair: list[Measured]) -> None:
    answers = measure.answers_of(pair[0], ROWS)
    assert [one.target for one in answers] == [q.target for row in ROWS for q in row.questions]


def test_perplexity_is_that_of_a_full_pass(generator: Path, talker: Path) -> None:
    import torch
    from featherdesk.agent.prompt import END_OF_TURN, render
    from transformers import AutoModelForCausalLM

    probe = Probe(generator, asked_of(ROWS), 1, 4)
    got = probe.surprise(1)
    tokens = measure_tokens(generator)
    asked = render((ENTRY,), "how much is delivery")
    prompt = [i for text in asked.texts for i in tokens(text)]
    wanted = tokens("Delivery costs £4.95." + END_OF_TURN)
    model = AutoModelForCausalLM.from_pretrained(talker).eval()
    ids = torch.tensor([[*prompt, *wanted]])
    labels = ids.clone()
    labels[0, : len(prompt)] = -100
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=labels).loss)
    assert got.tokens == len(wanted)
    assert got.nats / got.tokens == pytest.approx(loss, rel=1e-3)


def measure_tokens(generator: Path):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(generator / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def test_the_child_imports_no_torch() -> None:
    code = "import sys, featherdesk.compress.probe; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "sklearn", "onnxruntime_genai"}


def test_the_command_prints_json(generator: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    dataset.save(ROWS, rows)
    command = [sys.executable, "-m", "featherdesk.compress.measure", str(generator), str(rows)]
    done = subprocess.run(
        [*command, "--threads", "1", "--limit", "3", "--questions", "1", "--users", "0"],
        capture_output=True,
        text=True,
        check=True,
    )
    (told,) = json.loads(done.stdout)
    assert told["questions"] == 1
    assert told["crowd"] is None
    assert str(generator) in told["command"]


def test_a_folder_that_is_no_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a generator folder"):
        measure.measure(tmp_path, ROWS, progress=False)


def test_a_child_that_dies_is_an_error(generator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measure._Child._call

    def killed(self: measure._Child, *order: object) -> dict[str, object]:
        self._process.kill()
        return asked(self, *order)

    monkeypatch.setattr(measure._Child, "_call", killed)
    with pytest.raises(FeatherdeskError, match="ended with -9"):
        measure.measure(generator, ROWS, progress=False)


def test_without_rows_nothing_is_measured(generator: Path) -> None:
    with pytest.raises(ConfigError, match="no rows"):
        measure.measure(generator, ())
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        measure.measure(generator, ROWS, limit=0)


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        ("Delivery costs £4.95.", "Delivery costs £4.95.", True),
        ("It costs £4.95 for delivery.", "Delivery costs £4.95.", True),
        ("Delivery costs £5.95.", "Delivery costs £4.95.", False),
        ("Delivery is not expensive.", "Delivery costs £4.95.", False),
        ("Delivery takes 3 days and costs £4.95.", "Delivery costs £4.95.", True),
        ("Delivery takes 9 days and costs £4.95.", "Delivery costs £4.95.", False),
        (REFUSAL, "Delivery costs £4.95.", False),
        (REFUSAL, REFUSAL, True),
        ("Delivery costs £4.95.", REFUSAL, False),
        ("", "Delivery costs £4.95.", False),
        ("Bananas.", "We wrap every parcel by hand.", False),
    ],
)
def test_an_answer_is_right_when_its_claims_are(text: str, target: str, right: bool) -> None:
    assert _answer(text, target).right is right


def test_refusals_are_counted_apart() -> None:
    told = quality(
        [
            _answer("Delivery costs £4.95.", "Delivery costs £4.95."),
            _answer(REFUSAL, "Delivery costs £4.95."),
            _answer(REFUSAL, REFUSAL),
            _answer("Ten.", REFUSAL),
        ]
    )
    assert (told.correct, told.exact, told.refused_wrong) == (0.5, 0.5, 0.5)
    assert (told.refused_right, told.answers, told.refusals) == (0.5, 2, 2)
    assert told.bleu > 0
    assert told.chrf > 0
    assert 0 < told.rouge_l < 1


def test_the_worst_changes_come_first_and_equal_answers_never() -> None:
    asked = [Asked(str(n), ROWS[0], Question("?", "Delivery costs £4.95.")) for n in range(4)]
    right = "Delivery costs £4.95."
    parent = [
        Answer(one, text)
        for one, text in zip(asked, [right, right, right, "No idea."], strict=True)
    ]
    artefact = [
        Answer(one, text)
        for one, text in zip(asked, [right, "It costs £4.95 delivery", "£9", "Hm."], strict=True)
    ]
    assert [after.asked.id for _, after in worst(parent, artefact)] == ["2", "3", "1"]
    assert len(worst(parent, artefact, 1)) == 1


def test_questions_are_spread_over_the_rows() -> None:
    many = [replace(ROWS[0], group=f"g{n}") for n in range(10)]
    assert [one.row.group for one in asked_of(many, 5)] == ["g0", "g2", "g4", "g6", "g8"]
    assert len({one.id for one in asked_of(many)}) == 20

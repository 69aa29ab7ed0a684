from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.errors import ArtifactError, ConfigError, FeatherdeskError
from featherdesk.agent.prompt import REFUSAL
from featherdesk.agent.types import Entry, Turn
from featherdesk.compress.bert import load_onnx_bert, merge_encoder, merged
from featherdesk.compress.dataset import Question, Row
from featherdesk.compress.export_encoder import export_encoder
from featherdesk.compress.retriever import RetrieverConfig, train_retriever

PAIRS = [
    ("Do you have a spa?", "Yes, there is a spa.", "somewhere to be pampered"),
    ("Is there parking?", "Parking costs £9 a night.", "where do we leave the car"),
    ("When is check-out?", "Check-out is at 11:00.", "by when must we be gone"),
    ("Are dogs allowed?", "Dogs may stay for £5.", "we travel with a terrier"),
]


def _rows() -> list[Row]:
    rows = []
    for number, (question, answer, asked) in enumerate(PAIRS):
        other = PAIRS[(number + 1) % len(PAIRS)]
        entries = (Entry("a", question, answer), Entry("b", other[0], other[1]))
        questions = (
            Question(asked, answer),
            Question(f"{asked}, and how big is it?", REFUSAL),
            Question("and that?", answer, (Turn("user", asked),)),
        )
        rows.append(Row(entries, questions, str(number), "t"))
    return rows


@pytest.fixture(scope="module")
def trained(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("retriever")
    config = RetrieverConfig(steps=12, batch=4, evaluate_every=6)
    told = train_retriever(encoder_folder, _rows(), _rows(), out, config, progress=False)
    assert told["curve"][-1][1] >= told["curve"][0][1]
    return out


def test_one_that_gets_no_better_stays_as_it_was(encoder_folder: Path, tmp_path: Path) -> None:
    """A rate that spoils everything: what is saved is the encoder as it began."""
    config = RetrieverConfig(steps=4, batch=4, evaluate_every=2, learning_rate=0.5)
    told = train_retriever(encoder_folder, _rows(), _rows(), tmp_path, config, progress=False)
    assert (tmp_path / "training.json").exists()
    assert list(tmp_path.glob("*.safetensors"))
    assert max(judged for _, judged in told["curve"]) >= told["curve"][0][1]


def _cosine(encoder: MiniLM, a: str, b: str) -> float:
    first, second = encoder.embed([a, b])
    return float(first @ second)


def test_a_bert_read_from_onnx_embeds_as_the_graph_does(encoder_folder: Path) -> None:
    import torch

    model = load_onnx_bert(encoder_folder / "model.onnx")
    graph = MiniLM(encoder_folder)
    tokenizer = graph._tokenizer
    ids = torch.tensor([tokenizer.encode("How long is delivery?").ids])
    with torch.no_grad():
        states = model(ids, torch.ones_like(ids)).last_hidden_state[0].mean(0).numpy()
    wanted = graph.embed(["How long is delivery?"])[0]
    assert float(wanted @ (states / np.linalg.norm(states))) > 0.999


def test_what_was_trained_is_nearer_after_merge_and_int8_export(
    encoder_folder: Path, trained: Path, tmp_path: Path
) -> None:
    merge_encoder(encoder_folder, trained, tmp_path / "hf")
    assert export_encoder(tmp_path / "hf", tmp_path / "int8") > 0.97
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < 25e6
    written = sorted(p.name for p in (tmp_path / "int8").iterdir())
    assert written == ["model.onnx", "parity.json", "tokenizer.json"]
    before, after = MiniLM(encoder_folder), MiniLM(tmp_path / "int8")
    for question, answer, asked in PAIRS:
        text = f"{question} {answer}"
        assert _cosine(after, asked, text) > _cosine(before, asked, text)


def test_an_adapter_is_small(trained: Path) -> None:
    assert (trained / "adapter_model.safetensors").stat().st_size <= 12e6


def test_a_wrong_graph_fails_loudly_and_leaves_nothing(
    encoder_folder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_encoder(encoder_folder, trained, tmp_path / "hf")
    monkeypatch.setattr("featherdesk.compress.export_encoder.INT8_AGREEMENT", 1.01)
    with pytest.raises(FeatherdeskError, match="the int8 encoder is not the model"):
        export_encoder(tmp_path / "hf", tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


def test_rows_without_a_question_of_one_entry_are_refused(
    encoder_folder: Path, tmp_path: Path
) -> None:
    rows = [Row((Entry("a", "q", "a"),), (Question("x", "something else"),), "g", "t")]
    with pytest.raises(FeatherdeskError, match="0 rows hold a question with its entry"):
        train_retriever(encoder_folder, rows, rows, tmp_path, RetrieverConfig())


def test_another_models_layers_are_refused(
    encoder_folder: Path, trained: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(trained / "adapter_model.safetensors")
    bias = tensors["encoder.layer.0.output.dense.bias"]
    tensors["encoder.layer.99.output.dense.bias"] = bias.clone()
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ArtifactError, match="was not made from this encoder"):
        merged(encoder_folder, tmp_path)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        RetrieverConfig(batch=0)
    with pytest.raises(ConfigError, match="learning_rate must be in"):
        RetrieverConfig(learning_rate=2)

import json
import math
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from featherdesk.agent.classifier import REST, TextClassifier
from featherdesk.agent.errors import ArtifactError, ConfigError, FeatherdeskError
from featherdesk.compress.classified import write_classifier
from featherdesk.compress.classify import ClassifyConfig, train_classifier
from featherdesk.compress.labelled import Parts

_WORDS = {
    "delivery": ("parcel", "courier", "shipping", "delivery"),
    "payment": ("invoice", "credit card", "paying", "bank transfer"),
    REST: ("weather", "football", "a poem", "the moon"),
}
_FRAMES = (
    "tell me about {}",
    "a question on {}",
    "{} please",
    "I need help with {}",
    "what about {}?",
    "something on {}",
)
_QUICK = ClassifyConfig(epochs=4, batch=12, learning_rate=3e-4)


def _parts() -> Parts:
    rows = [
        (frame.format(word), label)
        for label, words in _WORDS.items()
        for word in words
        for frame in _FRAMES
    ]
    return Parts(
        tuple(r for n, r in enumerate(rows) if n % 6 < 4),
        tuple(r for n, r in enumerate(rows) if n % 6 == 4),
        tuple(r for n, r in enumerate(rows) if n % 6 == 5),
    )


@pytest.mark.parametrize(
    "config",
    [_QUICK, replace(_QUICK, rank=8, adversarial=0.5, class_weights=False, learning_rate=1e-3)],
    ids=["full", "lora-adversarial"],
)
def test_what_was_trained_decides_alike_as_int8_onnx(
    encoder_folder: Path, tmp_path: Path, config: ClassifyConfig
) -> None:
    parts = _parts()
    trained = train_classifier(
        encoder_folder, parts.train, parts.validation, config, progress=False
    )
    report = write_classifier(trained, config, parts, encoder_folder, tmp_path / "made")
    assert report["int8_decides_alike"] >= 0.97
    graph = onnx.load(tmp_path / "made" / "model.onnx", load_external_data=False).graph
    assert {"QAttention", "SkipLayerNormalization"} <= {node.op_type for node in graph.node}
    assert report["test"]["accuracy"] >= 0.9
    assert report["test"]["macro_f1"] >= 0.9
    assert (tmp_path / "made" / "confusion-test.png").read_bytes().startswith(b"\x89PNG")
    classifier = TextClassifier(tmp_path / "made")
    told = classifier.log_probabilities(["where is my parcel", "the weather on the moon"])
    assert [classifier.labels[int(n)] for n in told.argmax(1)] == ["delivery", REST]
    assert classifier.held_out == {text for text, _ in parts.validation}
    (tmp_path / "made" / "labels.json").write_text(json.dumps({"labels": ["one"]}))
    with pytest.raises(ArtifactError, match="do not belong together"):
        TextClassifier(tmp_path / "made")


def test_what_decides_otherwise_as_int8_is_not_written(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = _parts()
    config = replace(_QUICK, epochs=0.5)
    trained = train_classifier(
        encoder_folder, parts.train, parts.validation, config, progress=False
    )
    steps = math.ceil(math.ceil(len(parts.train) / config.batch) * config.epochs)
    assert trained.curve[-1][0] == pytest.approx(
        steps / math.ceil(len(parts.train) / config.batch)
    )  # half an epoch, and no more
    monkeypatch.setattr("featherdesk.compress.classified._agreement", lambda *_: 0.5)
    with pytest.raises(FeatherdeskError, match=r"on 50\.0% of the validation texts only"):
        write_classifier(trained, config, parts, encoder_folder, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_early_stopping_keeps_the_best_epoch(encoder_folder: Path) -> None:
    parts = _parts()
    config = replace(_QUICK, epochs=12, patience=1)
    trained = train_classifier(
        encoder_folder, parts.train, parts.validation, config, progress=False
    )
    assert trained.curve[-1][0] < 12
    assert trained.curve[-1][1] <= max(accuracy for _, accuracy in trained.curve[:-1])


def test_nothing_to_learn_or_to_judge_by_is_said(encoder_folder: Path) -> None:
    with pytest.raises(FeatherdeskError, match="at least two labels"):
        train_classifier(encoder_folder, [("a", "x")], [("b", "x")], _QUICK)
    with pytest.raises(FeatherdeskError, match="no row of a label"):
        train_classifier(encoder_folder, [("a", "x"), ("b", "y")], [("c", "z")], _QUICK)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 2.0), ("epochs", 0.0), ("batch", 1), ("smoothing", 1.0), ("rank", -1)],
)
def test_wrong_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        ClassifyConfig(**{name: value})  # type: ignore[arg-type]

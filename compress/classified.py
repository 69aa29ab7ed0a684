"""Writes a trained classifier as int8 ONNX and reports on it: figures and a confusion matrix.

Knows nothing of how it was trained.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..agent.artifacts import atomic_folder
from ..agent.classifier import TextClassifier
from ..agent.errors import FeatherdeskError
from .bert import mean_states, padded
from .classify import ClassifyConfig, Trained
from .export_encoder import export_encoder
from .labelled import Example, Parts

__all__ = ["figures", "write_classifier"]

AGREEMENT = 0.97
_SHOWN = 40


def write_classifier(
    trained: Trained, config: ClassifyConfig, parts: Parts, base: Path, out: Path
) -> dict[str, Any]:
    """Export with optimum to int8, check that it decides as torch does, and report.

    Raises:
        FeatherdeskError: the exported classifier decides otherwise too often; `out` is not usable.
    """
    bert = trained.model.bert
    merged = bert.merge_and_unload() if hasattr(bert, "merge_and_unload") else bert
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        merged.save_pretrained(scratch)
        (scratch / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
        parity = export_encoder(scratch, scratch / "exported")
        with atomic_folder(out) as fresh:
            shutil.copytree(scratch / "exported", fresh, dirs_exist_ok=True)
            return _finished(trained, config, parts, parity, fresh)


def _finished(
    trained: Trained, config: ClassifyConfig, parts: Parts, parity: float, out: Path
) -> dict[str, Any]:
    """Add the head, the labels and the report to an exported encoder."""
    head = trained.model.head
    np.savez(
        out / "classes.npz",
        weights=head.weight.detach().numpy().T.astype(np.float32),
        bias=head.bias.detach().numpy().astype(np.float32),
    )
    told = {"labels": trained.labels, "held_out": [text for text, _ in parts.validation]}
    (out / "labels.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    agreed = _agreement(trained, TextClassifier(out), parts.validation)
    if agreed < AGREEMENT:
        raise FeatherdeskError(
            f"the int8 classifier decides as torch does on {agreed:.1%} of the validation texts "
            f"only; train with other settings"
        )
    report: dict[str, Any] = {
        "config": asdict(config),
        "curve": trained.curve,
        "seconds": trained.seconds,
        "vectors_agree": round(parity, 4),
        "int8_decides_alike": round(agreed, 4),
        "rows": {name: len(getattr(parts, name)) for name in ("train", "validation", "test")},
    }
    for name in ("validation", "test"):
        rows = getattr(parts, name)
        if rows:
            report[name] = figures(TextClassifier(out), rows, out / f"confusion-{name}.png")
    (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def figures(
    classifier: TextClassifier, rows: Sequence[Example], picture: Path | None = None
) -> dict[str, float]:
    """Accuracy and macro-F1 of the exported classifier; draws the confusion matrix."""
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    labels = list(classifier.labels)
    told = _decided(classifier, [text for text, _ in rows])
    right = [label for _, label in rows]
    if picture is not None:
        shown = sorted({*right, *told})
        _draw(confusion_matrix(right, told, labels=shown), shown, picture)
    return {
        "rows": len(rows),
        "accuracy": round(float(accuracy_score(right, told)), 4),
        "macro_f1": round(float(f1_score(right, told, average="macro", zero_division=0)), 4),
        "labels": len(labels),
    }


def _decided(classifier: TextClassifier, texts: Sequence[str]) -> list[str]:
    best = classifier.log_probabilities(texts).argmax(1)
    return [classifier.labels[int(n)] for n in best]


@torch.no_grad()  # type: ignore[untyped-decorator]
def _agreement(trained: Trained, classifier: TextClassifier, rows: Sequence[Example]) -> float:
    """The share of texts on which torch and int8 name the same label."""
    texts = [text for text, _ in rows]
    told = _decided(classifier, texts)
    same = 0
    for start in range(0, len(texts), 64):
        part = texts[start : start + 64]
        ids, seen = padded([trained.tokenizer.encode(text).ids for text in part])
        best = trained.model.head(mean_states(trained.model.bert, ids, seen)).argmax(1)
        wanted = told[start : start + 64]
        same += sum(trained.labels[int(n)] == w for n, w in zip(best, wanted, strict=True))
    return same / len(texts)


def _draw(matrix: NDArray[Any], labels: Sequence[str], path: Path) -> None:
    """Rows are what is right, columns what was said, as shares of each row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 4 + 0.16 * min(len(labels), _SHOWN)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Greens", vmin=0, vmax=1)
    axes.set_xlabel("said")
    axes.set_ylabel("right")
    if len(labels) <= _SHOWN:
        names = [label[:24] or "(none)" for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(labels)), names, fontsize=7)
    figure.colorbar(image, label="share of the row", shrink=0.8)
    figure.savefig(path, dpi=110)

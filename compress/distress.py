"""Fits the heads that tell distress from its vector: agent/distress.json.

    python -m featherdesk.compress.distress ENCODER

ENCODER is the folder of the default English encoder. Written for this: distress.jsonl, messages of
people in distress and look-alikes; the sample shop's questions and the out-of-scope questions are
further look-alikes. Knows nothing of the wordings that the guard looks for as well.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import click
import numpy as np

from ..agent.cli import run
from ..agent.encoder import ENGLISH, Encoder, MiniLM, MultilingualUse, Paired
from ..agent.ingest import read_faq

__all__ = ["examples", "fit_head"]

SURE = 0.9
"""How sure a head must be: a help line that nobody needed costs little, but not nothing."""

STRENGTH = 10.0


def examples() -> tuple[list[str], list[bool]]:
    """Messages, and whether each is of somebody in distress."""
    path = files(__package__) / "distress.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [str(row["text"]) for row in rows]
    marks = [bool(row["distress"]) for row in rows]
    others = files("featherdesk.agent") / "out_of_scope.jsonl"
    plain = [json.loads(line)["question"] for line in others.read_text("utf-8").splitlines()]
    sample = Path(str(files("featherdesk"))) / "models" / "sample"
    for name in ("faq_en.jsonl", "faq_zh.jsonl"):
        plain.extend(q for entry in read_faq(sample / name) for q in entry.questions)
    return [*texts, *plain], [*marks, *([False] * len(plain))]


def fit_head(encoder: Encoder, texts: Sequence[str], marks: Sequence[bool]) -> dict[str, object]:
    """The weights and bias of a logistic regression over an encoder's vectors."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=3000)
    model.fit(encoder.embed(texts), np.array(marks))
    return {
        "sure": SURE,
        "bias": round(float(model.intercept_[0]), 4),
        "weights": [round(float(weight), 4) for weight in model.coef_[0]],
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Fit a head for each encoder that bots use by default, and write agent/distress.json."""
    texts, marks = examples()
    english, multilingual = MiniLM(folder, 2, ENGLISH), MultilingualUse()
    encoders: list[Encoder] = [english, multilingual, Paired(english, multilingual)]
    heads = {encoder.id: fit_head(encoder, texts, marks) for encoder in encoders}
    path = Path(__file__).parents[1] / "agent" / "distress.json"
    path.write_text(json.dumps(heads) + "\n", encoding="utf-8")
    click.echo(f"{path}: {', '.join(heads)}")


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.distress")

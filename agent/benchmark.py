"""Public intent sets through the code a bot is built with, beside published figures.

Training questions go in as a FAQ whose entries are the intents, test questions through `batch
--route-only`. Thresholds come from validation parts only. Reads the sets, and writes a table;
knows nothing of how routing works.
"""

import json
import random
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from .generators import run_featherdesk
from .public_sets import BRAUN, Example, banking77, braun, chitchat, clinc150, few, folds, wanted
from .spelling import mistyped

__all__ = ["Row", "benchmark", "document", "measure_routing", "table"]

FUSED = "minilm-l6-v2-int8+use-multilingual-v3"
SEEDS = 5
_TRAINING = ("--epochs", "8")
_DOCUMENT = """# Routing on public sets

Written by one command:

```
featherdesk benchmark routing --data ../shared/data --out docs/benchmarks.md
```

Every set goes through the code a bot is built with: training questions in as a FAQ whose entries
are the intents (an intent's name is its entry's question, the training questions are the variants),
test questions through `batch --route-only`; guards are off and entries verbatim,
since what people say to a voice assistant reads like orders. The encoders are all-MiniLM-L6-v2
(int8) and the multilingual Universal Sentence Encoder side by side, neither trained on these sets
by us. Intervals are 95 % bootstrap intervals over questions (10 examples an intent: of the mean
over seeds). Thresholds come from validation parts.

{table}
"""
_ANSWERED = {"answer", "verbatim"}
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: shares in 0..1 with a 95 % interval over questions (or seeds)."""

    set: str
    measure: str
    value: float
    low: float
    high: float
    of: int
    published: str
    bar: float
    how: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the bot said to a question: its best entry, how sure it was, whether it answered."""

    intent: str
    confidence: float
    answered: bool


class _Bench:
    """Builds a bot of labelled questions and asks it others, each in a folder of `work`."""

    def __init__(self, work: Path, notify: Notify) -> None:
        self.work, self.notify = work, notify

    def asked(
        self,
        name: str,
        rows: Sequence[Example],
        questions: Sequence[str],
        strange: Sequence[str] = (),
        *,
        encoder: str = FUSED,
        classify: bool = False,
    ) -> list[_Answer]:
        """The bot's answers to questions; what an earlier run left in `work` is used again."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        told = folder / "told.jsonl"
        if not told.exists():
            self.notify(f"{name}: {len(rows)} training questions, {len(questions)} asked")
            _write_jsonl(folder / "asked.jsonl", [{"question": text} for text in questions])
            _write_faq(folder, rows, strange, encoder)
            if classify:
                self._classify(folder)
                _write_faq(folder, rows, strange, encoder, "classifier")
            run_featherdesk(["build", str(folder / "bot.toml"), "--quick"])
            bot, asked = str(folder / "bot"), str(folder / "asked.jsonl")
            run_featherdesk(["batch", bot, asked, str(told), "--route-only"])
        lines = told.read_text(encoding="utf-8").splitlines()
        return [_answer(json.loads(line)) for line in lines]

    def _classify(self, folder: Path) -> None:
        """Fine-tune a classifier on the bot's wordings, unless it is there already."""
        made = folder / "classifier"
        if not (made / "report.json").exists():
            run_featherdesk(["classify", str(folder / "bot.toml"), "--out", str(made), *_TRAINING])


def measure_routing(
    data: Path, work: Path, sets: Sequence[str] = (), notify: Notify = lambda _: None
) -> list[Row]:
    """Measure on the named public sets (all by default) in `data`.

    Raises:
        InputError: a set is missing.
    """
    bench = _Bench(work, notify)
    chosen = wanted(sets)
    rows: list[Row] = []
    if "clinc150" in chosen:
        rows += _clinc(bench, data)
    if "banking77" in chosen:
        rows += _banking(bench, data)
    if "braun" in chosen:
        rows += _braun(bench, data)
    if "chitchat" in chosen:
        rows += _chitchat(bench, data)
    return rows


def _clinc(bench: _Bench, data: Path) -> list[Row]:
    """In scope and out of scope under one threshold, taken from the validation part."""
    parts = clinc150(data)
    asked = [text for name in ("val", "test", "oos_test") for text, _ in parts[name]]
    told = iter(
        bench.asked(
            "clinc150",
            parts["train"],
            asked,
            [text for text, _ in parts["oos_train"]],
            classify=True,
        )
    )
    val, test, oos_test = (
        [next(told) for _ in parts[name]] for name in ("val", "test", "oos_test")
    )
    known = [a.intent == label for a, (_, label) in zip(val, parts["val"], strict=True)]
    threshold = _kept(val, known)
    right = [a.intent == label for a, (_, label) in zip(test, parts["test"], strict=True)]
    kept = [ok and a.confidence >= threshold for ok, a in zip(right, test, strict=True)]
    refused = [a.confidence < threshold for a in oos_test]
    how = (
        f"threshold {threshold:.3f}, which 99 % of the validation part's right answers pass; class "
        "head and a classifier fine-tuned by `featherdesk classify`"
    )
    published = "BERT 96.9 / 40.3; with threshold 96.2 / 52.3; Rasa 91.5 / 45.3"
    return [
        _row("CLINC150 full", "in-scope accuracy, no threshold", right, "BERT 96.9", 0.0, ""),
        _row("CLINC150 full", "in-scope accuracy", kept, published, 0.96, how),
        _row("CLINC150 full", "out-of-scope recall", refused, "", 0.70, how),
    ]


def _kept(told: Sequence[_Answer], right: Sequence[bool]) -> float:
    """The threshold that 99 % of the right answers pass."""
    sure = [a.confidence for a, ok in zip(told, right, strict=True) if ok]
    return float(np.quantile(sure, 0.01))


def _banking(bench: _Bench, data: Path) -> list[Row]:
    train, test = banking77(data)
    asked = [text for text, _ in test]

    def right(name: str, rows: Sequence[Example]) -> list[bool]:
        told = bench.asked(name, rows, asked)
        return [a.intent == label for a, (_, label) in zip(told, test, strict=True)]

    rng = random.Random(0)
    typed = [mistyped(text, rng) for text in asked]

    def noisy(count: int) -> list[bool]:
        told = bench.asked(f"banking77-{count}-noisy", few(train, count, 0), typed)
        return [a.intent == label for a, (_, label) in zip(told, test, strict=True)]

    how = "seed 0, two letters exchanged in a word of every question"
    full = right("banking77", train)
    runs = [right(f"banking77-10-{seed}", few(train, 10, seed)) for seed in range(SEEDS)]
    return [
        _row(
            "BANKING77 full",
            "accuracy",
            full,
            "BERT 93.66; USE+ConveRT 93.36",
            0.937,
            "official split",
        ),
        _over_seeds(
            "BANKING77, 10 an intent",
            "accuracy",
            runs,
            "USE 84.2; USE+ConveRT 85.2",
            0.855,
        ),
        *(
            _row(f"BANKING77, {count} an intent, noisy", "accuracy", noisy(count), "", 0.0, how)
            for count in (5, 15)
        ),
    ]


def _braun(bench: _Bench, data: Path) -> list[Row]:
    """Micro-F1 over intents, `None` among them: what is not answered counts as None."""
    found: dict[str, list[bool]] = {}
    for kind, encoder in (("", FUSED), ("-lexical", "none")):
        for name in BRAUN:
            train, test = braun(data, name)
            rows = [row for row in train if row[1] != "None"]
            strange = [text for text, label in train if label == "None"]
            told = bench.asked(
                f"braun-{name}{kind}", rows, [t for t, _ in test], strange, encoder=encoder
            )
            can = bool(strange)
            found.setdefault(kind, []).extend(
                (a.intent if a.answered or not can else "None") == label
                for a, (_, label) in zip(told, test, strict=True)
            )
    published = "NLP.js .93; Watson .92; Rasa .88; Dialogflow .87"
    return [
        _row("Braun corpora", "micro-F1, three sets", found[""], published, 0.94, "the bot's own"),
        _row("Braun corpora", "the same, words alone", found["-lexical"], "", 0.0, "no encoder"),
    ]


def _chitchat(bench: _Bench, data: Path) -> list[Row]:
    right: list[bool] = []
    for fold, (train, test) in enumerate(folds(chitchat(data), 5, 0)):
        told = bench.asked(f"chitchat-{fold}", train, [text for text, _ in test])
        right += [a.intent == label for a, (_, label) in zip(told, test, strict=True)]
    return [_row("nlp.js chit-chat, 5-fold", "top-1", right, "none", 0.90, "seed 0")]


def _write_faq(
    folder: Path,
    rows: Sequence[Example],
    strange: Sequence[str],
    encoder: str,
    classifier: str = "",
) -> None:
    """A FAQ whose entries are the intents; their answers are the intents' names."""
    wordings: dict[str, list[str]] = {}
    for text, label in rows:
        wordings.setdefault(label, []).append(text)
    entries = [
        {
            "id": label,
            "question": re.sub(r"[_-]+", " ", label),
            "variants": list(dict.fromkeys(texts)),
            "answer": label.replace("_", " "),
            "language": "en",
            "verbatim": True,
        }
        for label, texts in wordings.items()
    ]
    _write_jsonl(folder / "faq.jsonl", entries)
    (folder / "strange.txt").write_text("\n".join(strange), encoding="utf-8")
    lines = [
        "[bot]",
        'name = "benchmark"',
        'faq = ["faq.jsonl"]',
        'out_of_scope = ["strange.txt"]',
        "[retrieval]",
        f'encoder = "{encoder}"',
        'reranker = "none"',
        f'classifier = "{classifier}"',
        "[generation]",
        "writes = []",
        "[guards]",
        'off = ["abuse", "distress", "injection"]',
    ]
    (folder / "bot.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _answer(told: dict[str, Any]) -> _Answer:
    return _Answer(told["entry_id"] or "", told["confidence"], told["route"] in _ANSWERED)


def _row(
    name: str, measure: str, values: Sequence[bool], published: str, bar: float, how: str
) -> Row:
    """The mean with its bootstrap interval over questions (2,000 resamples, seed 0)."""
    data = np.array(values, float)
    draws = np.random.default_rng(0).integers(0, len(data), (2000, len(data)))
    low, high = np.quantile(data[draws].mean(1), [0.025, 0.975])
    mean = float(data.mean())
    return Row(name, measure, mean, float(low), float(high), len(data), published, bar, how)


def _over_seeds(
    name: str, measure: str, runs: Sequence[Sequence[bool]], published: str, bar: float
) -> Row:
    """The mean over seeds; the interval is that of the mean (t, two-sided 95 %)."""
    means = np.array([np.mean(run) for run in runs])
    half = 2.776 * means.std(ddof=1) / np.sqrt(len(means))
    mean = float(means.mean())
    how = "seeds 0-4: " + ", ".join(f"{value:.1%}" for value in means)
    return Row(name, measure, mean, mean - half, mean + half, len(runs[0]), published, bar, how)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| set | measure | ours | 95 % interval | questions | published | bar | how |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = (
            "" if not row.bar else f"{row.bar:.1%} {'met' if row.value >= row.bar else 'missed'}"
        )
        lines.append(
            f"| {row.set} | {row.measure} | {row.value:.1%} | {row.low:.1%}-{row.high:.1%} | "
            f"{row.of} | {row.published} | {verdict} | {row.how} |"
        )
    return "\n".join(lines)


def document(rows: Sequence[Row]) -> str:
    """docs/benchmarks.md."""
    return _DOCUMENT.format(table=table(rows))


@click.group()
def benchmark() -> None:
    """Measure on public sets."""


@benchmark.command("routing")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The public sets.")
@click.option("--set", "sets", multiple=True, help="Only this one (again for more).")
@click.option("--work", type=click.Path(path_type=Path), help="Keep the bots here [a temporary].")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table here too.")
def routing(*, data: Path, sets: tuple[str, ...], work: Path | None, out: Path | None) -> None:
    """Routing on CLINC150, BANKING77, the Braun corpora and chit-chat, beside published figures.

    With --work an interrupted run goes on from the last whole set.
    """
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure_routing(data, work or Path(scratch), sets, _say)
    click.echo(table(rows))
    if out is not None:
        out.write_text(document(rows), encoding="utf-8")


def _say(text: str) -> None:
    click.echo(text, err=True)

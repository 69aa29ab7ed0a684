"""Each technique of compression alone, and what they come to together: a table and a report.

    python tests/measure_techniques.py BOT WORK OUT [--only NAME ...] [--tokens 300000]
        [--calibration ROWS.jsonl]

BOT is a bot folder whose model is compressed; WORK keeps steps and exports, so that it goes on where
it was stopped; OUT is the folder of the report. What prunes is shown as it is cut and once healed
(for `--tokens` tokens). All generators are then asked the held rows in one run, question by question
in turn.
"""

import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import click
from featherdesk.agent.cores import available_cores
from featherdesk.compress.channels import PruneChannels
from featherdesk.compress.distill import Heal
from featherdesk.compress.export import ExportFast
from featherdesk.compress.heads import PruneHeads
from featherdesk.compress.layers import RemoveLayers
from featherdesk.compress.material import shipped_material
from featherdesk.compress.measure import compare
from featherdesk.compress.measured import Measured, ratio
from featherdesk.compress.report import RunReport, Stage, write_report
from featherdesk.compress.sharing import ShareWeights
from featherdesk.compress.sparsity import Sparsify
from featherdesk.compress.steps import Done, Step, Task, run_steps
from featherdesk.compress.subject import find_subject
from featherdesk.compress.vocabulary import TrimVocabulary

BASE = "int4, blocks of 32"
HEALED = ", healed"
_TOLD = (attrgetter("settings"), attrgetter("measured"))


@dataclass(frozen=True, slots=True)
class Technique:
    """A row of the table: steps, and whether they are healed behind."""

    name: str
    steps: tuple[tuple[str, Step], ...] = ()
    export: ExportFast = ExportFast()  # noqa: RUF009 - frozen
    heal: bool = False


FIRST = [
    Technique("fp32", export=ExportFast("fp32")),
    Technique(BASE),
]
"""What others are compared with."""


def techniques() -> list[Technique]:
    """Each alone, then some together."""
    cuts: list[tuple[str, tuple[tuple[str, Step], ...]]] = [
        ("vocabulary of 12,288", (("vocabulary", TrimVocabulary(12288)),)),
        ("7 layers fewer", (("layers", RemoveLayers(7)),)),
        ("1 of 3 KV heads fewer", (("heads", PruneHeads(2)),)),
        ("channels 1,536 to 1,152", (("channels", PruneChannels(1152)),)),
        ("half of the weights zero (Wanda)", (("sparsity", Sparsify(by="wanda")),)),
        ("2:4 (SparseGPT)", (("sparsity", Sparsify(pattern="2:4", by="sparsegpt")),)),
        ("4 pairs of layers share", (("sharing", ShareWeights(groups=4)),)),
        (
            "vocabulary and layers",
            (("vocabulary", TrimVocabulary(12288)), ("layers", RemoveLayers(7))),
        ),
        (
            "vocabulary, layers, channels",
            (
                ("vocabulary", TrimVocabulary(12288)),
                ("layers", RemoveLayers(5)),
                ("channels", PruneChannels(1344)),
            ),
        ),
    ]
    rows = [
        *FIRST,
        Technique("int4, blocks of 64", export=ExportFast(block_size=64)),
        Technique("int4, blocks of 128", export=ExportFast(block_size=128)),
        Technique("int4, symmetric", export=ExportFast(symmetric=True)),
        Technique("int4, k-quant", export=ExportFast(algorithm="k_quant")),
        Technique("int4, head in int8", export=ExportFast(head="int8")),
        Technique("int4, 6 layers in int8", export=ExportFast(mixed=6)),
        Technique("int8", export=ExportFast("int8")),
    ]
    for name, steps in cuts:
        rows.append(Technique(name, steps))
        rows.append(Technique(name + HEALED, steps, heal=True))
    return rows


@click.command()
@click.argument("bot", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("work", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="Rows by name [all]; the first two always.")
@click.option("--tokens", type=int, default=300_000, show_default=True)
@click.option("--questions", type=int, default=48, show_default=True)
@click.option("--calibration", type=click.Path(path_type=Path), help="Rows [the bot's own].")
def main(
    bot: Path,
    work: Path,
    out: Path,
    *,
    only: tuple[str, ...],
    tokens: int,
    questions: int,
    calibration: Path | None,
) -> None:
    """Make, measure and print every row."""

    def say(text: str) -> None:
        click.echo(text, err=True)

    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").is_file():
        raise click.UsageError(f"{out} is there and no report; name another place")
    subject = find_subject(str(bot), work, calibration=calibration, notify=say)
    chosen = [t for t in techniques() if not only or t.name in {"fp32", BASE, *only}]
    made = []
    for technique in chosen:
        say(f"== {technique.name}")
        cut = technique.name.removesuffix(HEALED)  # what is healed begins with the same steps
        place = work / cut.replace(" ", "-").replace(":", "-").replace(",", "")
        steps = list(technique.steps)
        if technique.heal:
            rounds = technique.export.precision == "int4"
            heal = Heal(
                tokens=tokens, bits=4 if rounds else 0, block_size=technique.export.block_size
            )
            steps.append(("heal", heal))
        steps.append(("export", technique.export))
        task = Task(subject.parent, subject.material, place / "scratch", say)
        made.append(run_steps(steps, subject.parent, place, task))
    folders = [done[-1].folder for done in made]
    command = shlex.join(["python", *sys.argv])
    held = subject.material.held or shipped_material(200).held
    found = compare(folders, held, questions=questions, command=command)
    base = found[[technique.name for technique in chosen].index(BASE)]
    stages = [_stage(*row) for row in zip(chosen, made, found, strict=True)]
    run = RunReport(
        name="Techniques",
        model=str(bot),
        recipe="",
        command=command,
        machine=f"{available_cores()} cores, {platform.machine()}, {platform.system()}",
        created=datetime.now(UTC).isoformat(timespec="minutes"),
        stages=(),
        unpruned=base,
        fp32=found[0],
        techniques=tuple(stages),
        commands={"techniques": command},
        notes=(f"What is healed learned {tokens:,} tokens.",),
    )
    write_report(out, run)
    click.echo(_table(stages, base))


def _stage(technique: Technique, done: Sequence[Done], measured: Measured) -> Stage:
    kind = "prune" if technique.steps and not technique.heal else "export"
    settings, told = ({one.name: read(one) for one in done} for read in _TOLD)
    seconds = sum(one.seconds for one in done)
    return Stage(technique.name, kind, settings, told, seconds, measured)


def _table(stages: Sequence[Stage], base: Measured) -> str:
    """Ratios are to `base`, question by question."""
    heads = ("technique", "MB", "time to first token", "characters/s", "correct, %", "exact, %")
    lines = [f"| {' | '.join((*heads, 'minutes'))} |", "|" + "---|" * (len(heads) + 1)]
    for stage in stages:
        assert stage.measured is not None
        one = stage.measured
        cells = (
            stage.name,
            f"{one.size_mb:.1f}",
            f"{ratio(one, base, 'first').median:.2f}",
            f"{ratio(one, base, 'rate').median:.2f}",
            f"{100 * one.quality.correct:.1f}",
            f"{100 * one.quality.exact:.1f}",
            f"{stage.seconds / 60:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

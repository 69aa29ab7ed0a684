"""The proof of a compression: every step measured, the bot judged, the report written.

What is compared is exported from the folders that the steps left and asked in one run. Knows
nothing of how models are made smaller.
"""

import json
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..agent.artifacts import Manifest
from ..agent.catalog import catalog, local_folder
from ..agent.cores import available_cores
from ..agent.destination import PARITY
from ..agent.errors import FeatherdeskError
from ..agent.prefill import FOLDER
from ..agent.swap import clear
from ..agent.types import Entry
from .answers import Answer, worst
from .compression import Compressed, bot_with, read_together
from .damage import GROUPS, damage_map
from .export import ExportFast, Quantization, export
from .gate import Judgement, run_gate, store
from .kept import Kept
from .material import shipped_material
from .measure import answers_of, size_mb
from .noninferiority import QUESTIONS, Verdict
from .recipe import Recipe
from .report import Change, RunReport, Stage, change_of, write_report
from .steps import Done, Notify, identity_of
from .trial import Trial, entries_of, make_trial, shipped_rewordings

__all__ = ["Proof", "prove"]

PAIRS = 900
"""Of 300 pairs a loss is known to 2.6 points either way, of 900 to 1.5; 2 may be lost."""
_TOGETHER = (
    "with entries read one by one the gate says {verdict} ({why}): this bot reads them together, "
    "as the one before does, and is judged once more"
)
Damage = dict[str, dict[str, dict[str, float]]]
Judge = Callable[[], tuple[Judgement | None, Trial | None]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a run is worth: the report, and the gate's judgement where there was a test."""

    run: RunReport
    judgement: Judgement | None


def prove(
    done: Compressed,
    recipe: Recipe,
    work: Path,
    *,
    command: str,
    tests: Sequence[Path] = (),
    dev: Path | None = None,
    questions: int = 24,
    notify: Notify = lambda _: None,
) -> Proof:
    """Measure every step beside the whole model, calibrate and judge a bot, write the report.

    What was measured and fitted is kept in `work`: with the same steps, rows and questions it is
    not done again after an interruption, or when the gate could not decide.

    `tests` are test files for the gate; `dev` is one that thresholds may be fitted on.

    Raises:
        FeatherdeskError: something cannot be measured; see its message.
    """
    rows = done.subject.material.held or shipped_material(200).held
    notify("exporting what is compared")
    whole = _exported(done.subject.parent, work, Quantization(precision="fp32"))
    unpruned = _exported(done.subject.parent, work, Quantization())
    folders, notes = _generators(done.steps, _plan(recipe))
    kept = Kept(work, notify)
    generators = [whole, unpruned, *folders.values()]
    found = kept.compare(generators, rows, questions=questions, command=command)
    measured = dict(zip(folders, found[2:], strict=True))
    answers = {name: answers_of(one, rows) for name, one in measured.items()}
    before = answers_of(found[0], rows)
    judge = partial(_judged, done, recipe, work, whole, kept, tests, dev)
    judgement, trial, told = _as_it_reads(done, judge, notify)
    notes += told
    run = RunReport(
        name=done.folder.name,
        model=str(done.subject.bot or done.subject.parent),
        recipe=recipe.name,
        command=command,
        machine=f"{available_cores()} cores, {platform.machine()}, {platform.system()}",
        created=datetime.now(UTC).isoformat(timespec="minutes"),
        stages=tuple(Stage.of(step, measured.get(_label(step)), command) for step in done.steps),
        unpruned=found[1],
        fp32=found[0],
        fp32_mb=size_mb(whole),
        fetched_mb=_fetched_mb(done.subject.base),
        stored_mb=_stored_mb(done.folder),
        stored_before_mb=_stored_mb(done.subject.bot),
        gate=judgement.to_json() if judgement else None,
        damage=_damage(before, answers) | _judged_damage(judgement),
        changes=_changes(judgement, trial)
        or _answers_changed(before, answers, own=done.subject.own),
        commands=dict.fromkeys(("gate", "damage", "changes"), command),
        notes=(*notes, *_not_judged(done, judgement)),
    )
    _write_beside(done.folder / "report", run)
    if judgement is not None:
        store(done.folder, judgement, trial)
    return Proof(run, judgement)


def _judged(
    done: Compressed,
    recipe: Recipe,
    work: Path,
    whole: Path,
    kept: Kept,
    tests: Sequence[Path],
    dev: Path | None,
) -> tuple[Judgement | None, Trial | None]:
    """Calibrate a bot and let the gate judge it against one that answers with `whole`; neither a
    judgement nor a trial where there is no bot or no test."""
    if done.subject.bot is None:
        return None, None
    parent = work / "parent-bot"
    bot_with(done.subject.bot, whole, parent)
    kept.recalibrate(done.folder, dev, parent)
    if not tests:
        return None, None
    trial = make_trial(
        tests,
        entries_of(parent),
        shipped_rewordings(),
        questions=QUESTIONS,
        pairs=PAIRS,
        bot=done.subject.bot,
    )
    return run_gate(parent, done.folder, trial, recipe.margins), trial


def _loses(judgement: Judgement) -> bool:
    """Whether a bot did not pass, and not for want of questions alone."""
    most = judgement.margins.estimate
    over = any(
        one.loss.estimate > most for one in judgement.measures if one.verdict != Verdict.PASSED
    )
    return judgement.verdict is Verdict.REFUSED or (judgement.verdict != Verdict.PASSED and over)


def _as_it_reads(done: Compressed, judge: Judge, notify: Notify) -> tuple[Any, Any, list[str]]:
    """The judgement and the trial of a bot, and what became of it on the way: where it has learned
    to read entries one by one and loses too much so, it reads them together, as the one before."""
    judgement, trial = judge()
    before = done.subject.bot
    if judgement is None or before is None or not _loses(judgement):
        return judgement, trial, []
    if Manifest.load(before).blocks or not Manifest.load(done.folder).blocks:
        return judgement, trial, []
    told = _TOGETHER.format(verdict=judgement.verdict, why="; ".join(judgement.reasons))
    notify(told)
    read_together(done.folder)
    return *judge(), [told]


def _write_beside(folder: Path, run: RunReport) -> None:
    """Write the report; what lies there already (the calibration's curves) stays."""
    kept = {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    write_report(folder, run)
    for name, data in kept.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(data)


def _plan(recipe: Recipe) -> Quantization:
    """How every step is exported to be measured: as the recipe ends."""
    last = recipe.steps[-1][1]
    return last if isinstance(last, ExportFast) else Quantization()


def _exported(parent: Path, work: Path, plan: Quantization) -> Path:
    """The whole model's generator in a precision; made once."""
    return _once(parent, work / f"parent-{plan.precision}-{identity_of(parent)[:12]}", plan)


def _once(model: Path, place: Path, plan: Quantization) -> Path:
    """Export to `place`, unless it holds an export with the same settings."""
    wanted = json.loads(json.dumps(asdict(plan)))
    try:
        found = json.loads((place / PARITY).read_text(encoding="utf-8"))["quantization"]
    except (OSError, ValueError, KeyError):
        found = None
    if found != wanted:
        clear(place)
        export(model, place, plan)
    return place


def _generators(steps: Sequence[Done], plan: Quantization) -> tuple[dict[str, Path], list[str]]:
    """A generator for every step by its label, and what could not be exported."""
    found, notes = {}, []
    for step in steps:
        place = step.folder
        if step.kind != "export":
            try:
                place = _once(step.folder, step.folder.parent / "measured", plan)
            except FeatherdeskError as error:
                notes.append(f"{_label(step)} could not be measured: {error}")
                continue
        found[_label(step)] = place
    return found, notes


def _label(step: Done) -> str:
    """Names a step by its place: `02-layers`."""
    return step.folder.parent.name


def _fetched_mb(base: str) -> float:
    """What a base model of the catalogue is fetched as, in MB; 0 for a folder or one of a hub."""
    known = None if local_folder(base) else catalog().get(base)
    return round(sum(file.bytes for file in known.files) / 1e6, 2) if known else 0.0


def _damage(before: Sequence[Answer], steps: Mapping[str, Sequence[Answer]]) -> Damage:
    """What each step lost of held answers that the whole model has right, in points, by entry,
    kind, language and category."""
    right = {one.asked.id for one in before if one.right}
    found: Damage = {}
    for view, name in _VIEWS.items():
        lost: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for step, answers in steps.items():
            for one in answers:
                if one.asked.id in right and name(one):
                    lost[name(one)][step].append(not one.right)
        shares = {
            row: {step: round(100 * sum(seen) / len(seen), 1) for step, seen in told.items()}
            for row, told in lost.items()
        }
        if shares:
            found[view] = shares
    return found


def _entry(answer: Answer) -> str:
    return answer.asked.row.group


def _kind(answer: Answer) -> str:
    if answer.should_refuse:
        return "refusal"
    return "follow-up" if answer.asked.question.history else "question"


def _about(answer: Answer) -> Entry:
    """The entry that a row is about; of a refusal's the first that was shown, if any was."""
    row = answer.asked.row
    shown = [*row.entries, Entry("", "", "", language="")]
    return next((entry for entry in shown if entry.id == row.group), shown[0])


_VIEWS: Mapping[str, Callable[[Answer], str]] = {
    "held answers by entry": _entry,
    "held answers by kind": _kind,
    "held answers by language": lambda answer: _about(answer).language,
    "held answers by category": lambda answer: _about(answer).category,
}


def _judged_damage(judgement: Judgement | None) -> Damage:
    """The gate's losses of the model's own words, in points, by each of the map's groups."""
    if judgement is None or not judgement.pairs:
        return {}
    told = damage_map([a for a, _ in judgement.pairs], {"result": [b for _, b in judgement.pairs]})
    return {
        f"gate by {group}": {
            row.name: {step: round(100 * share, 1) for step, share in row.lost.items()}
            for row in told.of(group)
        }
        for group in GROUPS
        if told.of(group)
    }


def _changes(judgement: Judgement | None, trial: Trial | None) -> tuple[Change, ...]:
    """The ten worst changes of the gate's questions; those with a lost answer first."""
    if judgement is None or trial is None or not judgement.pairs:
        return ()
    found = []
    for row, (a, b), (before, after) in zip(
        trial.rows, judgement.pairs, judgement.replies, strict=True
    ):
        texts = [one.told.raw_text or one.told.text for one in (before, after)]
        if texts[0] != texts[1]:
            found.append((a.raw <= b.raw, Change(a.id, texts[0], texts[1], a.raw, b.raw, row.own)))
    return tuple(change for _, change in sorted(found, key=lambda item: item[0])[:10])


def _answers_changed(
    before: Sequence[Answer], steps: Mapping[str, Sequence[Answer]], *, own: bool
) -> tuple[Change, ...]:
    """The ten worst changes of held answers behind the last step."""
    last = list(steps.values())[-1] if steps else []
    return tuple(change_of(a, b, own=own) for a, b in worst(before, last))


def _stored_mb(bot: Path | None) -> float:
    """What the entries that a bot read beforehand take beside its generator, in MB."""
    return size_mb(bot / FOLDER) if bot is not None and (bot / FOLDER).is_dir() else 0.0


def _not_judged(done: Compressed, judgement: Judgement | None) -> list[str]:
    if judgement is not None:
        return []
    if done.subject.bot is None:
        return ["A model without a bot is measured on held rows; the gate judges bots."]
    return ["The gate has not judged this bot: name test rows with --data."]

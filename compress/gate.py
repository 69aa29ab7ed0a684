"""The gate: an artefact against its parent on what customers get; refuses what got worse.

Both are asked the same over HTTP, one after the other. The verdict is the worst of all measures
(`measures` tells the rules), of a look at the files (`inspection`) and of the injections: refused,
undecided (too few questions, or bounds too wide), passed. Knows nothing of how either was made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from ..agent.artifacts import Manifest
from ..agent.config import load_config
from ..agent.errors import FeatherdeskError
from .inspection import check_same_bot, inspect
from .json_file import write_json
from .measures import Measure, damage, enough, fairness, measures
from .noninferiority import ORIGINALS, QUESTIONS, Verdict, worst
from .outcomes import Judge, Outcome, alike, entry_words, obeyed, outcome
from .recipe import Margins
from .served import Asked, Command, LoadError, Received, Replies, ask_bot, identity, serve_command
from .trial import Fair, Trial, entries_of

__all__ = ["Judgement", "compare", "failed_rows", "run_gate", "store"]

_LISTED = 200
"""Failed ids that the manifest holds; the report holds all."""

Answers = Mapping[Asked, Received]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reasons, most important first, and all they stand on.

    `pairs` are the outcomes of every row, parent's first; `obeyed` the ids of injections that only
    the artefact obeyed, `obeyed_raw` those that only its model did, whatever was sent.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    margins: Margins
    parent: str
    measures: tuple[Measure, ...] = ()
    pairs: tuple[tuple[Outcome, Outcome], ...] = ()
    obeyed: tuple[str, ...] = ()
    obeyed_raw: tuple[str, ...] = ()
    fair_pairs: int = 0
    injections: int = 0
    replies: tuple[tuple[Received, Received], ...] = ()

    @property
    def same_raw(self) -> float:
        """The share (0..1) of what both models wrote that is the same word for word."""
        written = [
            before.told.raw_text == after.told.raw_text
            for (a, b), (before, after) in zip(self.pairs, self.replies, strict=True)
            if a.wrote and b.wrote
        ]
        return round(sum(written) / max(1, len(written)), 4)

    @property
    def failed(self) -> list[str]:
        """Ids of what the parent did right and the artefact did not."""
        return [*self.obeyed, *(a.id for a, b in self.pairs if _lost(a, b))]

    def to_json(self) -> dict[str, Any]:
        """For the manifest: no texts, no rows."""
        failed = self.failed
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "parent": self.parent,
            "questions": len(self.pairs),
            "originals": len({a.original for a, _ in self.pairs}),
            "fairness_pairs": self.fair_pairs,
            "injections": self.injections,
            "margins": {**asdict(self.margins), "wider": self.margins.wider},
            "measures": {
                m.name: {"rule": m.rule.value, "verdict": m.verdict.value, **asdict(m.loss)}
                for m in self.measures
            },
            "same_raw": self.same_raw,
            "injections_obeyed": list(self.obeyed),
            "injections_obeyed_raw": list(self.obeyed_raw),
            "failed": failed[:_LISTED],
            "failed_in_all": len(failed),
        }


def run_gate(
    parent: Path,
    artefact: Path,
    trial: Trial | None,
    margins: Margins,
    *,
    fresh: bool = False,
    seed: int = 0,
    command: Command = serve_command,
) -> Judgement:
    """Judge an artefact; without a `trial` by its files alone, which can refuse but not pass.

    The parent is asked first and has ended before the artefact starts. `fresh` asks again what is
    kept in the cache.

    Raises:
        FeatherdeskError: the bots do not compare, or one stopped answering.
    """
    check_same_bot(parent, artefact)
    reasons = inspect(parent, artefact)
    name = identity(parent)
    told = Judgement(
        Verdict.REFUSED if reasons else Verdict.UNDECIDED, tuple(reasons), margins, name
    )
    if trial is None:
        return told
    theirs = _answers(parent, trial, "parent", fresh, command)
    try:
        ours = _answers(artefact, trial, "artefact", fresh, command)
    except LoadError as error:
        found = (*reasons, f"it does not load: {error}")
        return replace(told, verdict=Verdict.REFUSED, reasons=found)
    return compare(told, parent, trial, theirs, ours, seed)


def _answers(bot: Path, trial: Trial, name: str, fresh: bool, command: Command) -> Answers:
    gone = sorted(one.id for one in entries_of(bot).values() if one.expired(date.today()))
    replies = Replies(identity(bot), gone=gone)
    if fresh:
        replies.forget()
    asked = trial.asked
    found = ask_bot(bot, asked, replies, name=name, command=command)
    if not any(not reply.error for reply in found):
        raise FeatherdeskError(f"{bot} answers nothing: {found[0].error}")
    return dict(zip(asked, found, strict=True))


def compare(
    told: Judgement, parent: Path, trial: Trial, theirs: Answers, ours: Answers, seed: int = 0
) -> Judgement:
    """The judgement of both bots' answers, starting from what the files have told."""
    judge = Judge(entries_of(parent))
    pairs = _outcomes(parent, trial, judge, theirs, ours)
    compared = measures(pairs, told.margins, seed)
    if trial.fair:
        many = enough(pairs)
        fair = _fairness(trial.fair, judge, theirs, ours, told.margins, seed, many=many)
        compared.append(fair)
    newly = [_obeyed(trial, theirs, ours, place) for place in (0, 1)]
    reasons, verdict = _reasons(told, pairs, compared, newly[0])
    return replace(
        told,
        verdict=verdict,
        reasons=tuple(reasons),
        measures=tuple(compared),
        pairs=tuple(pairs),
        obeyed=tuple(newly[0]),
        obeyed_raw=tuple(newly[1]),
        fair_pairs=len(trial.fair),
        injections=len(trial.hostile),
        replies=tuple((theirs[row.asked], ours[row.asked]) for row in trial.rows),
    )


def _outcomes(
    parent: Path, trial: Trial, judge: Judge, theirs: Answers, ours: Answers
) -> list[tuple[Outcome, Outcome]]:
    most = load_config(parent / "bot.toml").generation.max_tokens
    known = entry_words(judge.entries.values())
    found = []
    for row in trial.rows:
        before, after = theirs[row.asked], ours[row.asked]
        found.append(
            (
                outcome(row, before, judge, known, most),
                outcome(row, after, judge, known, most, before),
            )
        )
    return found


def _fairness(
    pairs: Sequence[Fair],
    judge: Judge,
    theirs: Answers,
    ours: Answers,
    margins: Margins,
    seed: int,
    *,
    many: bool,
) -> Measure:
    def whole(answers: Answers, pair: Fair) -> bool:
        cases = (pair.first, pair.second)
        replies = [answers[Asked.of(case)] for case in cases]
        right = [
            judge.marks(case, reply.told).correct_sent
            for case, reply in zip(cases, replies, strict=True)
        ]
        return alike(replies[0], replies[1], (right[0], right[1]))

    return fairness(
        [whole(theirs, pair) for pair in pairs],
        [whole(ours, pair) for pair in pairs],
        [pair.original for pair in pairs],
        margins,
        seed,
        many=many,
    )


def _obeyed(trial: Trial, theirs: Answers, ours: Answers, place: int) -> list[str]:
    """Injections that only the artefact obeyed: 0 in what was sent, 1 in what was written."""
    return [
        one.case.id
        for one in trial.hostile
        if obeyed(ours[Asked.of(one.case)], one.words)[place]
        and not obeyed(theirs[Asked.of(one.case)], one.words)[place]
    ]


def _reasons(
    told: Judgement,
    pairs: Sequence[tuple[Outcome, Outcome]],
    compared: Sequence[Measure],
    newly: Sequence[str],
) -> tuple[list[str], Verdict]:
    """Reasons and verdict: what the files tell, what is broken, what was lost, what is open."""
    verdicts = [m.verdict for m in compared]
    verdicts += [Verdict.REFUSED] * bool(told.reasons or newly)
    verdicts += [Verdict.UNDECIDED] * (not enough(pairs))
    verdict = worst(verdicts)
    by = {
        which: [m.reason(told.margins) for m in compared if m.verdict is which]
        for which in (Verdict.REFUSED, Verdict.UNDECIDED)
    }
    reasons = list(told.reasons)
    if verdict is Verdict.REFUSED:
        reasons += damage(pairs) + by[Verdict.REFUSED]
        if newly:
            reasons.append(f"it obeys {len(newly)} injections that the parent does not")
        return reasons, verdict
    if not enough(pairs):
        originals = len({a.original for a, _ in pairs})
        reasons.append(
            f"undecided: {len(pairs)} questions of {originals} originals; a decision needs "
            f"{QUESTIONS:,} of {ORIGINALS} or more (more --data, no --limit)"
        )
    return reasons + by[Verdict.UNDECIDED], verdict


def _lost(parent: Outcome, artefact: Outcome) -> list[str]:
    """What the parent has right of a row and the artefact has not."""
    told = [
        (name, getattr(parent, name), getattr(artefact, name))
        for name in ("first", "refusal", "sent", "raw")
    ]
    raw = parent.wrote or artefact.wrote
    return [name for name, a, b in told if a and not b and (name != "raw" or raw)]


def failed_rows(judgement: Judgement, trial: Trial) -> list[dict[str, Any]]:
    """Every failed row with what was lost; texts only of the bot's own test rows."""
    found = []
    for row, (a, b), (before, after) in zip(
        trial.rows, judgement.pairs, judgement.replies, strict=True
    ):
        lost = _lost(a, b)
        if not lost:
            continue
        one: dict[str, Any] = {"id": a.id, "of": a.original, "kind": a.kind, "lost": lost}
        one["signs"] = [sign.value for sign in b.signs]
        if row.own:
            one["question"] = row.case.question
            for name, reply in (("parent", before), ("artefact", after)):
                one[name] = reply.told.raw_text or reply.told.text or reply.error
        found.append(one)
    return found


def store(artefact: Path, judgement: Judgement, trial: Trial | None) -> dict[str, Any]:
    """Mark the artefact's manifest and write report/gate.json; file hashes stay as they are."""
    told = judgement.to_json()
    report = {**told, "rows": [[asdict(a), asdict(b)] for a, b in judgement.pairs]}
    if trial is not None and judgement.pairs:
        report["failed"] = failed_rows(judgement, trial)
    write_json(artefact / "report" / "gate.json", report)
    write_json(artefact / "manifest.json", asdict(replace(Manifest.load(artefact), gate=told)))
    return told

"""The gate's measures: what is compared between parent and artefact, and by which rule.

Correct raw is judged over the rows that either let its model write, so that curated text does not
dilute it. Knows nothing of files or of servers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .noninferiority import ORIGINALS, QUESTIONS, Loss, Verdict, certain, decide, paired_loss
from .outcomes import Outcome, Sign
from .recipe import Margins

__all__ = ["Measure", "Rule", "damage", "enough", "fairness", "measures"]

Pair = tuple[Outcome, Outcome]
"""Parent's and artefact's outcome of one row."""

_RISE = 5.0
"""Points by which a sign of damage must have risen to be named as a reason."""


class Rule(StrEnum):
    """How a measure is judged: `bounded` by estimate and upper bound; `rise` by the estimate
    against the margin for fall-backs; `watched` only refuses a loss at or over the margin that is
    no chance, since its rows are too few for a bound."""

    BOUNDED = "bounded"
    RISE = "rise"
    WATCHED = "watched"


@dataclass(frozen=True, slots=True)
class Measure:
    """One comparison with its verdict."""

    name: str
    rule: Rule
    loss: Loss
    verdict: Verdict

    def reason(self, margins: Margins) -> str:
        """What it says, in words."""
        loss = self.loss
        told = (
            f"{_NAMES[self.name]} {loss.parent:.1%} to {loss.artefact:.1%}: a loss of "
            f"{loss.estimate:.1f} points ({loss.lower:.1f} to {loss.upper:.1f}), "
            f"{loss.lost} lost and {loss.won} won of {loss.questions}"
        )
        if self.rule is Rule.BOUNDED:
            allowed = f"under {margins.estimate:g} with an upper bound under {margins.loss:g}"
        else:
            allowed = f"{margins.fallback if self.rule is Rule.RISE else margins.loss:g}"
        if self.verdict is not Verdict.UNDECIDED:
            return f"{told}; allowed: {allowed}"
        bound = margins.fallback if self.rule is Rule.RISE else margins.loss
        estimate = margins.estimate if self.rule is Rule.BOUNDED else bound
        needed = loss.needed(bound, estimate)
        more = f"; about {needed:,} questions would decide" if needed else ""
        return f"undecided: {told}; allowed: {allowed}{more}"


_NAMES = {
    "correct_raw": "correct raw answers fell from",
    "correct_sent": "correct answers as sent fell from",
    "correct_sent_written": "correct answers as sent, where a model wrote, fell from",
    "not_fallback": "fall-backs rose; raw answers that were sent fell from",
    "right_entry": "the right entry first fell from",
    "refusals": "right decisions to answer or refuse fell from",
    "out_of_scope_refused": "out-of-scope questions refused fell from",
    "in_scope_answered": "in-scope questions not refused fell from",
    "fairness": "pairs that differ in name, dialect or politeness and are treated alike fell from",
}


def measures(pairs: Sequence[Pair], margins: Margins, seed: int = 0) -> list[Measure]:
    """Every measure of paired outcomes, most important first."""
    inside = [p for p in pairs if not p[0].out_of_scope]
    outside = [p for p in pairs if p[0].out_of_scope]
    wrote = [p for p in pairs if p[0].wrote or p[1].wrote]
    written = [p for p in wrote if not p[0].out_of_scope]
    many = enough(pairs)
    told: list[tuple[str, Rule, list[Pair], Callable[[Outcome], bool]]] = [
        ("correct_raw", Rule.BOUNDED, written, lambda o: o.raw),
        ("not_fallback", Rule.RISE, wrote, lambda o: not o.fallback),
        ("correct_sent", Rule.BOUNDED, inside, lambda o: o.sent),
        ("correct_sent_written", Rule.WATCHED, written, lambda o: o.sent),
        ("refusals", Rule.BOUNDED, list(pairs), _refusal),
        ("in_scope_answered", Rule.WATCHED, inside, _refusal),
        ("out_of_scope_refused", Rule.WATCHED, outside, _refusal),
        ("right_entry", Rule.BOUNDED, inside, lambda o: o.first),
    ]
    found = []
    for name, rule, rows, right in told:
        if rows:
            loss = paired_loss(
                [right(a) for a, _ in rows],
                [right(b) for _, b in rows],
                [a.original for a, _ in rows],
                seed,
            )
            found.append(Measure(name, rule, loss, _judged(rule, loss, margins, many)))
    return found


def fairness(
    parent: Sequence[bool],
    artefact: Sequence[bool],
    originals: Sequence[str],
    margins: Margins,
    seed: int = 0,
    *,
    many: bool = True,
) -> Measure:
    """The measure of pairs that ask the same; a flag is a pair that was treated alike. `many`:
    whether there were questions enough for a decision."""
    loss = paired_loss(parent, artefact, originals, seed)
    return Measure("fairness", Rule.WATCHED, loss, _judged(Rule.WATCHED, loss, margins, many))


def enough(pairs: Sequence[Pair]) -> bool:
    """Whether there are questions enough to pass, and originals enough among them."""
    return len(pairs) >= QUESTIONS and len({a.original for a, _ in pairs}) >= ORIGINALS


def _refusal(outcome: Outcome) -> bool:
    return outcome.refusal


def _judged(rule: Rule, loss: Loss, margins: Margins, many: bool) -> Verdict:
    if rule is Rule.BOUNDED:
        many = many and loss.originals >= ORIGINALS
        return decide(loss, bound=margins.loss, estimate=margins.estimate, enough=many)
    if rule is Rule.RISE:
        if loss.estimate <= margins.fallback:
            return Verdict.PASSED
        beyond = many or certain(loss, margins.fallback)
        return Verdict.REFUSED if beyond else Verdict.UNDECIDED
    if loss.estimate < margins.loss:
        return Verdict.PASSED
    beyond = certain(loss, 0.0 if many else margins.loss)
    return Verdict.REFUSED if beyond else Verdict.UNDECIDED


def damage(pairs: Sequence[Pair]) -> list[str]:
    """Reasons that name what is broken, by signs in what the models wrote."""
    groups: list[tuple[str, Callable[[Outcome], bool]]] = [
        ("template marks in the answers (a wrong chat template?)", lambda o: Sign.MARKS in o.signs),
        ("end of turn missed or too early (a wrong end token?)", _ends_wrong),
        ("answers are empty, loop or are no words (damaged weights?)", _no_language),
    ]
    found = []
    for name, held in groups:
        before = _share(held, (a for a, _ in pairs))
        after = _share(held, (b for _, b in pairs))
        if after - before >= _RISE:
            found.append((after - before, f"{name}: {after:.0f} % of them, {before:.0f} % before"))
    return [reason for _, reason in sorted(found, reverse=True)]


def _ends_wrong(outcome: Outcome) -> bool:
    long = Sign.LONG in outcome.signs and Sign.LOOP not in outcome.signs
    return long or Sign.RUNS_ON in outcome.signs or Sign.CUT_SHORT in outcome.signs


def _no_language(outcome: Outcome) -> bool:
    return bool({Sign.EMPTY, Sign.LOOP, Sign.NO_WORDS} & set(outcome.signs))


def _share(held: Callable[[Outcome], bool], outcomes: Iterable[Outcome]) -> float:
    """Percent of what models wrote."""
    told = [held(outcome) for outcome in outcomes if outcome.wrote]
    return 100 * sum(told) / max(1, len(told))

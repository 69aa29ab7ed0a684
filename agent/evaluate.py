"""Scores a bot on a test file: routing, refusal, correctness raw and sent, grounding, authors.

Every rate comes with a 95 % bootstrap interval. Definitions are DESIGN's: correct means that
every fact is present and every claim stands in a cited entry; refused means that the route is
none of answer, verbatim, skill. Knows nothing of how the bot was made.
"""

import json
import re
import resource
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .commands import history_of, read_questions
from .engine import Agent
from .errors import InputError
from .grounding import sources_of, unsupported
from .overlap import overlap
from .progress import track
from .types import Author, Entry, Reply, RouteKind, Turn

__all__ = [
    "Case",
    "Marks",
    "Scored",
    "Told",
    "compared",
    "evaluate_bot",
    "facts_present",
    "judge",
    "load_cases",
    "score",
    "table",
]

_ANSWERING = frozenset({RouteKind.ANSWER, RouteKind.VERBATIM, RouteKind.SKILL})


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a test file."""

    id: str
    question: str
    history: tuple[Turn, ...]
    entry_ids: tuple[str, ...]
    facts: tuple[tuple[str, ...], ...]
    kind: str
    out_of_scope: bool
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What is judged of a reply, whether it came from an `Agent` or as JSON.

    `ranked` are all candidates, `passed` those the model saw, both best first; `parts` is how many
    of them the message needs; `cited` are the entries the reply stands on.
    """

    route: RouteKind
    author: Author
    text: str
    raw_text: str
    ranked: tuple[str, ...]
    passed: tuple[str, ...]
    cited: tuple[str, ...]
    parts: int = 1

    @classmethod
    def of(cls, reply: Reply) -> "Told":
        """What an agent's reply tells."""
        return cls(
            reply.route.kind,
            reply.author,
            reply.text,
            reply.raw_text,
            tuple(match.entry_id for match in reply.route.matches),
            reply.route.passed,
            tuple(c.entry_id for c in reply.citations),
            reply.route.parts,
        )


@dataclass(frozen=True, slots=True)
class Marks:
    """What of a reply was right; `offered` is a choice that holds the wanted entry."""

    first: bool
    in_three: bool
    refused: bool
    offered: bool
    correct_sent: bool
    correct_raw: bool
    grounded: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """A case with its reply and what of it was right."""

    case: Case
    reply: Reply
    first: bool
    in_three: bool
    refused: bool
    offered: bool
    correct_sent: bool
    correct_raw: bool
    grounded: bool


def load_cases(path: Path, known: Iterable[str]) -> list[Case]:
    """Read a test file; `known` are the bot's entry ids.

    Raises:
        InputError: a line is not a test row, holds a value of another type, or names an entry the
            bot does not have.
    """
    ids = set(known)
    cases = []
    for number, row in read_questions(path):
        wanted = row.get("entry_ids", [])
        facts = row.get("facts") or []
        out = row.get("out_of_scope") or False
        if not _texts(wanted):
            raise InputError(path, 'entry_ids must be a list of ids: ["delivery"]', number)
        if not isinstance(facts, list) or not all(fact and _texts(fact) for fact in facts):
            raise InputError(
                path,
                'facts must be a list of facts, each a list of wordings that will do: [["30 days", '
                '"thirty days"], ["£4.95"]]',
                number,
            )
        if not isinstance(out, bool):
            raise InputError(path, "out_of_scope must be true or false", number)
        missing = [name for name in wanted if name not in ids]
        if missing and not out:
            raise InputError(
                path, f"the bot has no entry {missing[0]!r}; correct entry_ids", number
            )
        if not wanted and not out:
            raise InputError(path, "needs entry_ids, or out_of_scope: true", number)
        cases.append(
            Case(
                str(row.get("id", number)),
                row["question"],
                tuple(history_of(path, number, row)),
                tuple(wanted),
                tuple(tuple(fact) for fact in facts),
                str(row.get("kind", "")),
                out,
                str(row.get("answer", "")),
            )
        )
    return cases


def _texts(told: object) -> bool:
    """Whether it is a list of texts, none of them blank."""
    return isinstance(told, list) and all(isinstance(one, str) and one.strip() for one in told)


def facts_present(text: str, facts: Sequence[Sequence[str]]) -> bool:
    """Whether every fact stands in the text in one of its accepted wordings."""
    flat = _flat(text)
    return all(any(_holds(flat, _flat(wording)) for wording in fact) for fact in facts)


def _holds(text: str, wording: str) -> bool:
    """As a whole: `3` does not stand in `30`."""
    head = r"(?<!\d)" if wording[:1].isdigit() else ""
    tail = r"(?!\d)" if wording[-1:].isdigit() else ""
    return re.search(head + re.escape(wording) + tail, text) is not None


def _flat(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())


def judge(entry: Callable[[str], Entry], case: Case, told: Told) -> Marks:
    """Judge one reply; `entry` finds an entry by its id.

    A rejected text that was empty is what the model wrote, and not right.
    """
    cited = [entry(name) for name in told.cited]
    wide = sources_of([entry(name) for name in told.passed])
    refused = told.route not in _ANSWERING
    grounded = not unsupported(told.text, sources_of(cited)) if cited else True
    raw = told.raw_text or ("" if told.author is Author.FALLBACK else told.text)
    parts = told.passed[: told.parts] if told.parts > 1 else told.ranked[:1]
    return Marks(
        first=bool(told.ranked) and told.ranked[0] in case.entry_ids,
        in_three=any(name in case.entry_ids for name in (*told.ranked[:3], *parts)),
        refused=refused,
        offered=told.route is RouteKind.CLARIFY
        and any(name in case.entry_ids for name in told.cited),
        correct_sent=not refused and grounded and facts_present(told.text, case.facts),
        correct_raw=bool(raw)
        and not refused
        and facts_present(raw, case.facts)
        and not unsupported(raw, wide),
        grounded=grounded,
    )


def score(agent: Agent, case: Case, reply: Reply) -> Scored:
    """Judge one reply of an agent."""
    marks = judge(agent.entry, case, Told.of(reply))
    return Scored(case, reply, **asdict(marks))


def evaluate_bot(
    folder: Path, test: Path, device: str = "cpu", against: str | None = None
) -> dict[str, Any]:
    """Ask every question of a test file and report; a JSON-ready dictionary.

    With `against` another device is asked too, and `devices` tells how the replies compare.

    Raises:
        DeviceError: there is no such device.
    """
    agent = Agent.load(folder, device=device)
    cases = load_cases(test, (entry.id for entry in agent.router.index.entries))
    other = Agent.load(folder, device=against) if against else None
    scored = _asked(agent, cases, f"evaluating on {device}")
    report = summary(scored)
    report["device"] = device
    if other is not None:
        report["against"] = against
        report["devices"] = compared(scored, _asked(other, cases, f"evaluating on {against}"))
    report["bot"], report["test"], report["rows"] = str(folder), test.name, len(cases)
    report["model"] = agent.manifest.adapter
    report["failed"] = [
        s.case.id
        for s in scored
        if (s.case.out_of_scope and not s.refused)
        or (not s.case.out_of_scope and not s.correct_sent)
    ]
    return report


def _asked(agent: Agent, cases: Sequence[Case], what: str) -> list[Scored]:
    return [
        score(agent, case, agent.reply(case.question, case.history)) for case in track(cases, what)
    ]


def compared(scored: Sequence[Scored], others: Sequence[Scored]) -> dict[str, Any]:
    """How replies to the same cases compare: shares that are equal, what is correct of both.

    `equal_raw` counts the cases for which the model wrote on both sides; `differ` are the ids of
    cases whose route or text differs.
    """
    pairs = list(zip(scored, others, strict=True))
    inside = [pair for pair in pairs if not pair[0].case.out_of_scope]
    written = [pair for pair in pairs if all(_raw(one) for one in pair)]
    rates = {
        "equal_route": [_route(a) == _route(b) for a, b in pairs],
        "equal_sent": [a.reply.text == b.reply.text for a, b in pairs],
        "equal_raw": [_raw(a) == _raw(b) for a, b in written],
        "correct_raw": [a.correct_raw for a, _ in inside],
        "correct_raw_against": [b.correct_raw for _, b in inside],
        "correct_sent": [a.correct_sent for a, _ in inside],
        "correct_sent_against": [b.correct_sent for _, b in inside],
    }
    told: dict[str, Any] = {name: _rate(values) for name, values in rates.items() if values}
    same = zip(rates["equal_route"], rates["equal_sent"], strict=True)
    told["differ"] = [a.case.id for (a, _), both in zip(pairs, same, strict=True) if not all(both)]
    return told


def _route(one: Scored) -> tuple[RouteKind, tuple[str, ...]]:
    return one.reply.route.kind, one.reply.route.passed


def _raw(one: Scored) -> str:
    """What the model wrote, sent or not; nothing where it was not asked."""
    if one.reply.author is Author.MODEL:
        return one.reply.raw_text or one.reply.text
    return one.reply.raw_text


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """Every measure over all rows and by kind."""
    kinds = sorted({s.case.kind for s in scored})
    return {
        "all": _measures(scored),
        "by_kind": {kind: _measures([s for s in scored if s.case.kind == kind]) for kind in kinds},
        "text": _text_metrics(scored),
        "latency_ms": _latency(scored),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _measures(scored: Sequence[Scored]) -> dict[str, Any]:
    inside = [s for s in scored if not s.case.out_of_scope]
    outside = [s for s in scored if s.case.out_of_scope]
    answered = [s for s in scored if s.reply.route.kind is RouteKind.ANSWER]
    told: dict[str, Any] = {"rows": len(scored)}
    rates: dict[str, tuple[Sequence[Scored], Callable[[Scored], bool]]] = {
        "right_entry_first": (inside, lambda s: s.first),
        "right_entry_in_three": (inside, lambda s: s.in_three),
        "out_of_scope_refused": (outside, lambda s: s.refused),
        "in_scope_refused": (inside, lambda s: s.refused and not s.offered),
        "clarify_right": (inside, lambda s: s.offered),
        "correct_sent": (inside, lambda s: s.correct_sent),
        "correct_raw": (inside, lambda s: s.correct_raw),
        "grounded": (answered, lambda s: s.grounded),
        "author_model": (answered, lambda s: s.reply.author is Author.MODEL),
        "author_fallback": (answered, lambda s: s.reply.author is Author.FALLBACK),
    }
    for name, (rows, judge) in rates.items():
        if rows:
            told[name] = _rate([judge(s) for s in rows])
    return told


def _rate(values: Sequence[bool]) -> dict[str, float]:
    """Mean with its 95 % bootstrap interval (2,000 resamples, fixed seed)."""
    data = np.array(values, float)
    draws = np.random.default_rng(0).integers(0, len(data), (2000, len(data)))
    low, high = np.quantile(data[draws].mean(1), [0.025, 0.975])
    return {
        "value": round(float(data.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "of": len(data),
    }


def _text_metrics(scored: Sequence[Scored]) -> dict[str, float]:
    """BLEU, chrF and ROUGE-L against reference answers, where rows and libraries have them."""
    pairs = [(s.reply.text, s.case.answer) for s in scored if s.case.answer and not s.refused]
    return overlap([told for told, _ in pairs], [wanted for _, wanted in pairs])


def _latency(scored: Sequence[Scored]) -> dict[str, float]:
    totals = np.array([s.reply.ms.get("total", 0.0) for s in scored])
    first = [s.reply.ms["first_token"] for s in scored if "first_token" in s.reply.ms]
    told = {f"p{p}": round(float(np.percentile(totals, p)), 1) for p in (50, 90, 99)}
    if first:
        told["first_token_p50"] = round(float(np.median(first)), 1)
    return told


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [f"{report['rows']} questions, model {report['model']}"]
    for name, measures in [("all", report["all"]), *report["by_kind"].items()]:
        lines.append(f"\n{name} ({measures['rows']})")
        lines += _rates(measures)
    if "devices" in report:
        devices = report["devices"]
        lines.append(f"\n{report['device']} against {report['against']}")
        lines += _rates(devices)
        lines.append(f"  differ: {', '.join(devices['differ']) or 'none'}")
    lines.append(
        f"\nlatency ms {json.dumps(report['latency_ms'])}, "
        f"peak memory {report['peak_memory_mb']} MB"
    )
    return "\n".join(lines)


def _rates(measures: dict[str, Any]) -> list[str]:
    return [
        f"  {label:22} {rate['value']:6.1%}  [{rate['low']:.1%}, {rate['high']:.1%}] "
        f"of {rate['of']}"
        for label, rate in measures.items()
        if isinstance(rate, dict)
    ]

"""Other wordings of a test's questions, to fill it up: what is asked, and what is right, stays.

    python -m featherdesk.compress.rewordings TEST.jsonl --out ROWS.jsonl

writes those that `featherdesk gate --data TEST.jsonl` asks.

A wording has one to three changes: something before or behind the question, another order,
spelling or word in it, a habit of the keyboard. The words stand in `phrases`; no model was trained
on them. Rewordings of one question are no independent questions: resample them together.
Knows nothing of bots.
"""

import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product, repeat, zip_longest
from pathlib import Path
from typing import Any

import click

from ..agent.cli import run
from ..agent.commands import read_questions
from ..agent.evaluate import Case
from ..agent.types import Turn
from .fairness import fairness_pairs
from .injections import injection_cases
from .noninferiority import QUESTIONS
from .phrases import (
    ABBREVIATED,
    CONTRACTED,
    FRAMES,
    JOINTS,
    LEADS,
    OPENINGS,
    SPELLINGS,
    SWAPS,
    SWAPS_ZH,
)
from .shapes import ASKING, Shape, closed, indirect, opened, shape_of, small
from .trial import rows_of

__all__ = ["Rewording", "fairness_pairs", "injection_cases", "reworded_cases", "rewordings"]

_JOINT = re.compile(rf"[,?]? and (?={ASKING})", re.IGNORECASE)
_ASKS = re.compile(ASKING, re.IGNORECASE)
_EXACT = frozenset({"near_miss"})
"""Kinds whose question turns on a word: no other words in it."""

_NOT_LONG = r"(?:been|got|had|gone|happened|i|you|we|they|it|he|she)\b"
"""What follows a contraction that is not simply spelled out: "it's been", "why can't I"."""

_INNER, _FRAMED, _HABIT = 0.6, 0.65, 0.4
"""How often a wording is changed inside, around, and in how it is typed."""


@dataclass(frozen=True, slots=True)
class Rewording:
    """A case in other words; `of` is the id it was made from, `how` names the changes."""

    case: Case
    of: str
    how: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """One named change; `apply` gives a text back as it is where it does not fit.

    One that `marks` the end of the question does not go with one that `covers` it.
    """

    name: str
    apply: Callable[[str], str]
    marks: bool = False
    covers: bool = False


def reworded_cases(cases: Sequence[Case], count: int, seed: int) -> list[tuple[Case, str]]:
    """`count` rewordings spread evenly over `cases`, each with the id of its original.

    Fewer where the cases yield fewer different ones: none asks what another case or rewording
    asks. Facts, entries, kind and history are the
    original's; ids are `ORIGINAL~1`, `ORIGINAL~2`, ...
    """
    return [(one.case, one.of) for one in rewordings(cases, count, seed)]


def rewordings(cases: Sequence[Case], count: int, seed: int) -> list[Rewording]:
    """The same with the names of the changes, in the order of the cases."""
    order = list(enumerate(cases))
    random.Random(seed).shuffle(order)
    sources = [zip(repeat(place), _wordings(case, seed), strict=False) for place, case in order]
    taken = {(case.history, _same(case.question)) for case in cases}
    turns = (
        one
        for row in zip_longest(*sources)
        for one in row
        if one is not None and _fresh(one[1].case, taken)
    )
    found = sorted(islice(turns, count), key=lambda item: item[0])
    return [one for _, one in found]


def _fresh(case: Case, taken: set[tuple[tuple[Turn, ...], str]]) -> bool:
    """Whether nobody asks that yet; from now on somebody does."""
    asked = (case.history, _same(case.question))
    if asked in taken:
        return False
    taken.add(asked)
    return True


def _wordings(case: Case, seed: int) -> Iterator[Rewording]:
    """Every different rewording of a case, the likeliest combinations mostly first."""
    rng = random.Random(f"{seed} {case.id} {case.question}")
    seen = {_same(case.question)}
    number = 0
    for chain in _chains(case, rng):
        text = _changed(case.question, chain)
        if not text or _same(text) in seen:
            continue
        seen.add(_same(text))
        number += 1
        fresh = replace(case, id=f"{case.id}~{number}", question=text)
        yield Rewording(fresh, case.id, tuple(change.name for change in chain))


def _chains(case: Case, rng: random.Random) -> list[tuple[_Change, ...]]:
    """All combinations in an order drawn by their weights (Efraimidis and Spirakis 2006)."""
    shape = shape_of(case)
    slots = (
        _weighed(_inner(case, shape), _INNER),
        _weighed(_frames(shape), _FRAMED),
        _weighed(_habits(shape), _HABIT),
    )
    drawn = []
    for options in product(*slots):
        chain = tuple(change for change, _ in options if change)
        if not any(one.marks and two.covers for one in chain for two in chain):
            weight = math.prod(weight for _, weight in options)
            drawn.append((rng.expovariate(weight), chain))
    return [chain for _, chain in sorted(drawn, key=lambda item: item[0])]


def _weighed(changes: Sequence[_Change], share: float) -> list[tuple[_Change | None, float]]:
    """Changes that are made in `share` of the wordings, and none in the others."""
    return [(None, 1 - share), *((change, share / len(changes)) for change in changes)]


def _changed(text: str, chain: Sequence[_Change]) -> str | None:
    """The text after all changes; None where one of them changes nothing."""
    for change in chain:
        fresh = change.apply(text)
        if fresh == text:
            return None
        text = fresh
    return text


def _same(text: str) -> str:
    """What two wordings must differ in: letters and digits, or all there is without them."""
    return re.sub(r"[\W_]+", "", text).casefold() or " ".join(text.split())


def _inner(case: Case, shape: Shape) -> list[_Change]:
    """Changes inside the question."""
    if shape is Shape.BARE:
        return []
    pairs: list[tuple[str, str, str]] = []
    for long, short in CONTRACTED:
        pairs.append(("contracted", rf"\b{long}\b(?= \w)", short))
        pairs.append(("spelled out", rf"\b{short}\b(?! {_NOT_LONG})", long))
    for one, other in (*SPELLINGS, *((there, here) for here, there in SPELLINGS)):
        pairs.append(("spelling", rf"\b{one}(s?)\b", rf"{other}\1"))
    pairs += [("abbreviated", *pair) for pair in ABBREVIATED]
    if case.kind not in _EXACT:
        pairs += [("word", *pair) for pair in (*SWAPS, *SWAPS_ZH)]
        pairs += [("opening", *pair) for pair in OPENINGS if shape is Shape.QUESTION]
        pairs += [("lead", *pair) for pair in LEADS if shape is Shape.LEANING]
    joints = JOINTS if shape is Shape.SEVERAL else ()
    changes = [
        *(_replaced(*pair) for pair in pairs),
        *(_joined(joint) for joint in joints),
    ]
    return [change for change in changes if change.apply(case.question) != case.question]


def _replaced(name: str, pattern: str, other: str) -> _Change:
    known = re.compile(pattern, re.IGNORECASE)
    return _Change(name, lambda text: known.sub(other, text, count=1))


def _joined(joint: str) -> _Change:
    def apply(text: str) -> str:
        fits = "?" not in joint or _ASKS.match(text)
        return _JOINT.sub(joint, text) if fits and len(_JOINT.findall(text)) == 1 else text

    return _Change(f"joint {joint.strip()!r}", apply)


def _frames(shape: Shape) -> list[_Change]:
    return [_framed(frame) for frame in FRAMES[shape]]


def _framed(frame: str) -> _Change:
    def apply(text: str) -> str:
        turned = indirect(text) if "{indirect}" in frame else ""
        if "{indirect}" in frame and not turned:
            return text
        whole = opened(text) if "{q}，" in frame or "{q} -" in frame else text
        return frame.format(q=whole, low=small(text), full=closed(text), indirect=turned)

    return _Change(
        frame, apply, covers=not frame.endswith(("{q}", "{low}", "{indirect}", " {full}"))
    )


def _habits(shape: Shape) -> list[_Change]:
    """Habits of the keyboard; a mark is only changed where one belongs."""
    told = [
        _Change("trailing dots", lambda text: opened(text) + "...", marks=True),
        _Change("closed", closed, marks=True),
    ]
    if shape.endswith("_zh"):
        return [*told, *_HABITS_ZH]
    if shape in {Shape.QUESTION, Shape.SEVERAL, Shape.LEANING}:
        told.append(_Change("many marks", lambda text: opened(text) + "??", marks=True))
        told.append(_Change("spaced mark", lambda text: opened(text) + " ?", marks=True))
    return [*told, *_HABITS]


_HABITS = (
    _Change("no marks", lambda text: _bare(text).lower()),
    _Change("no apostrophes", lambda text: text.replace("'", "").replace("’", "")),
    _Change("shouted", str.upper),
    _Change("lower case", str.lower),
)
_HABITS_ZH = (
    _Change("western marks", lambda text: text.translate(str.maketrans("，。？：！", ",.?:!"))),
    _Change("no marks", lambda text: re.sub(r"[，。？：！、]+", " ", text).strip()),
)


def _bare(text: str) -> str:
    return " ".join(re.sub(r"[.,?!:;]+(?=\s|$)", "", text).split())


def _row(one: Rewording) -> dict[str, Any]:
    case = one.case
    history = [{"role": turn.role, "content": turn.content} for turn in case.history]
    told = {
        "id": case.id,
        "question": case.question,
        "history": history,
        "entry_ids": list(case.entry_ids),
        "facts": [list(fact) for fact in case.facts],
        "kind": case.kind,
        "out_of_scope": case.out_of_scope,
        "answer": case.answer,
        "of": one.of,
        "how": list(one.how),
    }
    return {name: value for name, value in told.items() if value or name == "entry_ids"}


@click.command()
@click.argument(
    "tests", metavar="TEST.jsonl...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--count", type=click.IntRange(1), help="[as many as the gate fills up with]")
@click.option("--seed", type=int, default=0, show_default=True)
def main(tests: tuple[Path, ...], *, out: Path, count: int | None, seed: int) -> None:
    """Write rewordings of tests' questions, as rows of a test with the id each is "of".

    Without options they are those that the gate asks when it is given the same test files.
    """
    known = {str(name) for test in tests for _, row in read_questions(test) for name in _names(row)}
    cases = [row.case for row in rows_of(tests, known)[0]]
    made = rewordings(cases, count or max(0, QUESTIONS - len(cases)), seed)
    lines = "".join(json.dumps(_row(one), ensure_ascii=False) + "\n" for one in made)
    out.write_text(lines, encoding="utf-8")
    click.echo(f"{len(made)} rewordings in {out}", err=True)


def _names(row: dict[str, Any]) -> list[Any]:
    told = row.get("entry_ids")
    return told if isinstance(told, list) else []


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.rewordings")

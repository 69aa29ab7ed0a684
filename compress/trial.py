"""What the gate asks: test rows, rewordings of them, fairness pairs and injections.

Rewordings come from `rewordings`, apart from any training. Knows nothing of replies.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from ..agent.errors import ArtifactError, ConfigError, InputError
from ..agent.evaluate import Case, load_cases
from ..agent.index import entry_from_json
from ..agent.types import Entry
from .served import Asked

__all__ = [
    "Fair",
    "Hostile",
    "Rewordings",
    "Row",
    "Trial",
    "check_tests",
    "entries_of",
    "make_trial",
    "may_be_quoted",
    "rows_of",
    "shipped_rewordings",
]

SOURCE = "SOURCE.txt"


class Rewordings(Protocol):
    """What makes questions of questions; the same seed makes the same ones."""

    def reworded_cases(
        self, cases: Sequence[Case], count: int, seed: int
    ) -> list[tuple[Case, str]]:
        """`count` cases in other words, each with the id of the one it rewords."""
        ...

    def fairness_pairs(
        self, cases: Sequence[Case], count: int, seed: int
    ) -> list[tuple[Case, Case, str]]:
        """Pairs that ask the same as other people would, with what differs; ids `ORIGINAL~...`."""
        ...

    def injection_cases(
        self, cases: Sequence[Case], seed: int
    ) -> list[tuple[Case, tuple[str, ...]]]:
        """Questions that give orders, with the words a reply must not hold."""
        ...


def shipped_rewordings() -> Rewordings:
    """The rewordings of this package."""
    return cast(Rewordings, import_module(".rewordings", __package__))


@dataclass(frozen=True, slots=True)
class Row:
    """One question; `original` is the id of the row it rewords, or its own.

    Only `own` rows may be quoted (see `may_be_quoted`).
    """

    case: Case
    original: str
    own: bool

    @property
    def asked(self) -> Asked:
        """What is sent."""
        return Asked.of(self.case)


@dataclass(frozen=True, slots=True)
class Fair:
    """Two questions that deserve the same reply, and what differs."""

    first: Case
    second: Case
    differs: str

    @property
    def original(self) -> str:
        """The id of the row that both are made from: what stands before `~` in theirs."""
        return self.first.id.rpartition("~")[0] or self.first.id


@dataclass(frozen=True, slots=True)
class Hostile:
    """A question that gives orders; `words` in a reply mean that they were obeyed."""

    case: Case
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """All that both bots are asked; `repeated` test rows were dropped, for others ask the same."""

    rows: tuple[Row, ...]
    fair: tuple[Fair, ...] = ()
    hostile: tuple[Hostile, ...] = ()
    repeated: int = 0

    @property
    def asked(self) -> list[Asked]:
        """Every question once, test rows first."""
        pairs = [case for pair in self.fair for case in (pair.first, pair.second)]
        others = [*pairs, *(one.case for one in self.hostile)]
        return list(dict.fromkeys([*(row.asked for row in self.rows), *map(Asked.of, others)]))


def entries_of(bot: Path) -> dict[str, Entry]:
    """The entries of a bot folder by id.

    Raises:
        ArtifactError: they cannot be read.
    """
    path = bot / "knowledge" / "entries.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [entry_from_json(json.loads(line)) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); build the bot anew") from None
    return {entry.id: entry for entry in found}


def make_trial(
    tests: Sequence[Path],
    entries: dict[str, Entry],
    rewordings: Rewordings,
    *,
    questions: int,
    pairs: int,
    limit: int = 0,
    seed: int = 0,
    bot: Path | None = None,
) -> Trial:
    """The rows of all test files, filled up to `questions` with rewordings of them.

    `limit` takes so many test rows, evenly from all, and rewords none. `bot` is whose replies they
    are: of one that is not ours to quote no row is.

    Raises:
        InputError: a test file is wrong.
    """
    if not tests:
        raise ConfigError("the gate needs a test file: --data TEST.jsonl")
    rows, repeated = rows_of(tests, entries)
    if bot is not None and not may_be_quoted(bot):
        rows = [replace(row, own=False) for row in rows]
    if limit:
        limit = min(limit, len(rows))
        rows = [rows[n * len(rows) // limit] for n in range(limit)]
    cases = [row.case for row in rows]
    own = {row.case.id: row.own for row in rows}
    missing = 0 if limit else max(0, questions - len(rows))
    if missing:
        told = rewordings.reworded_cases(cases, missing, seed)
        rows += [Row(case, original, own[original]) for case, original in told]
    most = min(pairs, limit) if limit else pairs
    fair = rewordings.fairness_pairs(cases, most, seed) if most else []
    hostile = rewordings.injection_cases(cases, seed)
    return Trial(
        tuple(rows),
        tuple(Fair(*pair) for pair in fair),
        tuple(Hostile(*one) for one in (hostile[:limit] if limit else hostile)),
        repeated,
    )


def rows_of(tests: Sequence[Path], known: Iterable[str]) -> tuple[list[Row], int]:
    """The rows of test files, and how many were dropped because an earlier one asks the same.

    The same question twice is one original: counted as two, it would narrow the bounds. `known`
    are the bot's entry ids.

    Raises:
        InputError: a file is wrong.
    """
    ids = set(known)
    rows: dict[Asked, Row] = {}
    taken: set[str] = set()
    repeated = 0
    for path in tests:
        own = may_be_quoted(path)
        for case in load_cases(path, ids):
            if Asked.of(case) in rows:
                repeated += 1
                continue
            name = case.id if case.id not in taken else f"{path.stem}/{case.id}"
            while name in taken:
                name += "+"
            taken.add(name)
            rows[Asked.of(case)] = Row(replace(case, id=name), name, own)
    return list(rows.values()), repeated


def may_be_quoted(*places: Path) -> bool:
    """Whether reports may hold texts of files and bots: not where SOURCE.txt lies beside them.

    It names whose data a set is; of such rows ids alone are shown.
    """
    return not any((place.resolve().parent / SOURCE).exists() for place in places)


def check_tests(
    tests: Sequence[Path], dev: Path | None, known: Iterable[str], notify: Callable[[str], None]
) -> None:
    """Read test files and a dev file as the proof will, before anything long starts.

    Raises:
        InputError: one is wrong, or `dev` holds test rows: thresholds would be fitted on the test.
    """
    ids = set(known)
    rows, repeated = rows_of(tests, ids)
    if repeated:
        notify(f"{repeated} test rows ask what others do: dropped")
    tested = {row.asked for row in rows}
    fitted = load_cases(dev, ids) if dev else []
    shared = [case.id for case in fitted if Asked.of(case) in tested]
    if dev and shared:
        raise InputError(
            dev,
            f"{len(shared)} of its rows ask what test rows ask, such as {shared[0]!r}; thresholds "
            "must not be fitted on the test: take them out of one of the two",
        )

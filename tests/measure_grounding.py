"""Measures the grounding check as a detector of wrong answers; prints a table, writes nothing.

    python tests/measure_grounding.py [--half report|tune] [--missed KIND] [--alarms]

Wrong are answers of the sample shop made wrong by code in eleven ways, and what base, half-trained
and damaged models wrote (tests/data/wrong_generations.jsonl, `make_wrong_generations.py`). Right
are rewordings written by hand (tests/data/right_rewordings.jsonl) and what models wrote that was
read and found right. Each is shown with its entry and up to two others of its kind, as the router
passes them. Entries fall into two halves by their id: one for looking at and setting the
threshold (`tune`), one for reporting.
"""

import argparse
import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from featherdesk.agent.evidence import Evidence, sources_of
from featherdesk.agent.grounding import missing
from featherdesk.agent.ingest import read_faq
from featherdesk.agent.support import load_support
from featherdesk.agent.types import Entry
from featherdesk.compress.corrupt import Corruption, corrupted

ROOT = Path(__file__).parents[1]
SAMPLE, DATA = ROOT / "models" / "sample", ROOT / "tests" / "data"
DRAWS, SEED = 3, 20
INVENTED = (
    "You will also get a £15 voucher for your next order.",
    "We collect it from your home free of charge.",
    "Every customer gets a second pair at half price.",
    "If you are unhappy we pay you back twice the price.",
    "This also holds for all other brands we sell.",
    "You can phone us day and night about it.",
    "We throw in a pair of hiking socks.",
    "No questions asked, even after a year.",
    "Gold members do not have to wait at all.",
    "Our manager will confirm it to you within ten minutes.",
    "The upgrade to express is on us.",
    "You can also pay for it later, without interest.",
    "It is insured against theft for two years.",
    "We will match any price you find abroad.",
    "Children's items are exempt from this.",
    "Your points are doubled this month.",
    "It works in every country of the world.",
    "You may keep the item anyway.",
    "We promise that it will arrive before the weekend.",
    "The first repair is always free.",
    "Staff in Keswick can make an exception for you.",
    "There is never a waiting time.",
    "A taxi to the shop is paid for by us.",
    "Your friends get the same discount.",
)


@dataclass(frozen=True, slots=True)
class Item:
    """A reply to judge, what it is judged against, and whether it is wrong."""

    kind: str
    entry: str
    reply: str
    shown: tuple[str, ...]
    question: str
    wrong: bool


@lru_cache(maxsize=1)
def shop() -> dict[str, Entry]:
    """The English entries of the sample shop."""
    return {entry.id: entry for entry in read_faq(SAMPLE / "faq_en.jsonl")}


def half_of(entry_id: str) -> str:
    """`tune` or `report`."""
    return ("tune", "report")[hashlib.sha256(entry_id.encode()).digest()[0] % 2]


def lines(name: str) -> list[dict[str, Any]]:
    """The rows of a data file; none where it is missing."""
    path = DATA / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def items(half: str) -> list[Item]:
    """Everything to judge in a half."""
    found = [*_rewordings(), *_corrupted(), *_generations()]
    return [item for item in found if half_of(item.entry) == half]


def _shown(entry: Entry, rng: random.Random) -> tuple[str, ...]:
    """The entry, first nine times in ten, and up to two others of its category."""
    near = [e.id for e in shop().values() if e.category == entry.category and e is not entry]
    shown = [entry.id, *rng.sample(near, k=rng.choice((0, 1, 2)))]
    if rng.random() < 0.1:
        shown.reverse()
    return tuple(shown)


def _rewordings() -> Iterator[Item]:
    rng = random.Random(SEED)
    for row in lines("right_rewordings.jsonl"):
        entry = shop()[row["entry"]]
        asked = row.get("question", entry.question)
        yield Item("right: by hand", entry.id, row["reply"], _shown(entry, rng), asked, False)


def _corrupted() -> Iterator[Item]:
    rng = random.Random(SEED + 1)
    replies = defaultdict(list)
    for row in lines("right_rewordings.jsonl"):
        replies[row["entry"]].append((row["reply"], row.get("question", "")))
    for entry in shop().values():
        told = [(entry.answer, ""), *replies[entry.id]]
        for kind in Corruption:
            seen: set[str] = set()
            for _ in range(DRAWS):
                shown = _shown(entry, rng)
                others = [e.answer for e in shop().values() if e.id not in shown]
                reply, asked = rng.choice(told)
                made = corrupted(kind, reply, others, rng, INVENTED)
                if made is not None and made not in seen:
                    seen.add(made)
                    yield Item(kind, entry.id, made, shown, asked or entry.question, True)


def _generations() -> Iterator[Item]:
    questions = {
        f"{name}/{row['id']}": row["question"]
        for name in ("dev", "test")
        for row in map(json.loads, (SAMPLE / f"{name}.jsonl").read_text("utf-8").splitlines())
    }
    for row in lines("wrong_generations.jsonl"):
        kind = "right: by a model" if row["right"] else f"model: {row['model']}"
        asked = questions[row["case"]]
        yield Item(kind, row["wanted"], row["reply"], tuple(row["shown"]), asked, not row["right"])


def rejected(item: Item) -> bool:
    """Whether the check would not let the reply through."""
    evidence = Evidence.of(sources_of([shop()[entry_id] for entry_id in item.shown]))
    return bool(missing(item.reply, evidence, item.question)) or load_support().doubts(
        item.reply, evidence, item.question
    )


def rates(found: Sequence[Item]) -> dict[str, tuple[int, int]]:
    """How many of each kind there are, and how many are rejected; and of the three sums."""
    told: dict[str, tuple[int, int]] = {}
    for item in found:
        group = "right" if not item.wrong else "model" if "model" in item.kind else "corrupted"
        caught = rejected(item)
        for name in (item.kind, f"all {group}"):
            of, hit = told.get(name, (0, 0))
            told[name] = (of + 1, hit + caught)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("report", "tune"), default="report")
    parser.add_argument("--missed", default="", help="print what was let through of a kind")
    parser.add_argument("--alarms", action="store_true", help="print the false alarms")
    told = parser.parse_args()
    found = items(told.half)
    for item in found:
        shows = (told.alarms and not item.wrong) or (told.missed and told.missed in item.kind)
        if shows and rejected(item) != item.wrong:
            print(f"[{item.kind}] {item.entry}\n  {item.question}\n  {item.reply}\n")
    began = time.perf_counter()
    print("| kind | answers | rejected |\n|---|---|---|")
    for name, (of, hit) in sorted(rates(found).items()):
        print(f"| {name} | {of} | {hit / of:.1%} |")
    print(f"\n{(time.perf_counter() - began) * 1000 / len(found):.1f} ms a reply")


if __name__ == "__main__":
    main()

"""Measures what reading a question with its history brings, on the dialogues of tests/data.

    python tests/measure_dialogues.py BOT [--missed KIND]

BOT is the sample shop's bot folder (`featherdesk demo --build-only` prints it). Every last question
is routed twice, with the turns before it and without them; right is a route whose best entry is the
one wanted. Prints a table by kind, and the lift with its 95 % bootstrap interval over dialogues; the
last row is the half (by a hash of the id) that was not looked at while the rewriting was made.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from featherdesk.agent.engine import Agent
from featherdesk.agent.types import Turn

DIALOGUES = Path(__file__).parent / "data" / "dialogues.jsonl"
UNSEEN = "follow-ups not looked at"
FOLLOW_UPS = ("elliptical", "pronoun", "ordinal", "correction")


def measure(agent: Agent, missed: str = "") -> dict[str, list[tuple[bool, bool]]]:
    """By kind, for every dialogue: right with the history, right without it."""
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for line in DIALOGUES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        history = [Turn(turn["role"], turn["content"]) for turn in row["history"]]
        tops = []
        for turns in (history, []):
            matches = agent.router.route(row["question"], turns).matches
            tops.append(matches[0].entry_id if matches else "")
        right = (tops[0] in row["entry_ids"], tops[1] in row["entry_ids"])
        found[row["kind"]].append(right)
        if row["kind"] in FOLLOW_UPS and hashlib.sha256(row["id"].encode()).digest()[0] % 2:
            found[UNSEEN].append(right)
        if row["kind"] == missed and not right[0]:
            before = " / ".join(turn.content for turn in history)
            print(
                f"{row['id']}: {before}\n  > {row['question']}\n  {tops[0]}, wanted {row['entry_ids']}"
            )
    return found


def lift(pairs: list[tuple[bool, bool]]) -> tuple[float, float, float]:
    """The mean gain of reading the history, with its interval (2,000 resamples, seed 0)."""
    gain = np.array([float(with_it) - float(alone) for with_it, alone in pairs])
    draws = np.random.default_rng(0).integers(0, len(gain), (2000, len(gain)))
    low, high = np.quantile(gain[draws].mean(1), [0.025, 0.975])
    return float(gain.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bot", type=Path)
    parser.add_argument("--missed", default="", help="print the dialogues of a kind that fail")
    given = parser.parse_args()
    found = measure(Agent.load(given.bot, generate=False), given.missed)
    unseen = found.pop(UNSEEN)
    found["all follow-ups"] = [pair for kind in FOLLOW_UPS for pair in found[kind]]
    found[UNSEEN] = unseen
    print("| kind | dialogues | right first | without history | lift | 95 % interval |")
    print("|---|---|---|---|---|---|")
    for kind, pairs in found.items():
        with_it, alone = np.mean(pairs, axis=0)
        gain, low, high = lift(pairs)
        print(
            f"| {kind} | {len(pairs)} | {with_it:.1%} | {alone:.1%} | "
            f"{100 * gain:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} |"
        )


if __name__ == "__main__":
    main()

"""Counts what prompts are made of, and what of them could be spared. Runs no generator.

    python tests/count_prompt_tokens.py BOT [--routed N]

BOT is the sample shop's bot folder. Prints JSON: tokens of each part of a prompt; for the
dialogues of tests/data what a follow-up turn shares with the turn before it, if the same entries
stand in front of both (`--routed N` finds out for N of them how often they do); and what entries
would lose if only their sentences nearest to the question were shown.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featherdesk.agent.engine import Agent
from featherdesk.agent.evaluate import facts_present
from featherdesk.agent.index import entry_from_json
from featherdesk.agent.lexical import words
from featherdesk.agent.progress import track
from featherdesk.agent.prompt import Blocks, render
from featherdesk.agent.types import Entry, Turn
from tokenizers import Tokenizer

DIALOGUES = Path(__file__).parent / "data" / "dialogues.jsonl"
LEFT = (1, 2, 3)
"""Sentences of an entry that a cut would leave."""

Encode = Callable[[str], list[int]]


def dialogues() -> list[tuple[list[Turn], dict[str, Any]]]:
    """The turns up to the last question, and the row."""
    rows = [json.loads(line) for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    return [([Turn(t["role"], t["content"]) for t in row["history"]], row) for row in rows]


def parts(encode: Encode, entries: Sequence[Entry]) -> dict[str, float]:
    """Tokens of what stands in every prompt, and of what an entry takes at the median."""
    prompt = render(entries, "")
    bare = [len(encode(e.question)) + len(encode(e.answer)) for e in entries[:4]]
    whole = [len(encode(text)) for text in prompt.entries]
    every = [len(encode(render([entry], "").entries[0])) for entry in entries]
    return {
        "system": len(encode(prompt.system)),
        "question frame": len(encode(prompt.question)),
        "frame of an entry": statistics.mean(w - b for w, b in zip(whole, bare, strict=True)),
        "entry, median": statistics.median(every),
        "entry, largest": max(every),
    }


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that two lists begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def pairs(history: Sequence[Turn], question: str) -> tuple[Blocks, Blocks]:
    """The prompt of the last turn, and of the user's turn before it, without their entries."""
    place = max((n for n, turn in enumerate(history) if turn.role == "user"), default=0)
    before = render((), history[place].content, history[:place])
    return before, render((), question, history)


def shared(encode: Encode) -> Iterator[tuple[int, int, int]]:
    """Of every follow-up: tokens of its tail, those it shares with the tail of the turn before it
    with its answer, and the tokens of the history."""
    for history, row in dialogues():
        if history and history[-1].role == "assistant":
            before, now = pairs(history, row["question"])
            stands = [*encode(before.question), *encode(history[-1].content)]
            tail = encode(now.question)
            alone = len(encode(render((), row["question"]).question))
            yield len(tail), common(stands, tail), len(tail) - alone


def same_entries(agent: Agent, count: int) -> dict[str, float]:
    """How often a follow-up passes the very entries of the turn before it, and how many of the
    leading ones."""
    told = [one for one in dialogues() if one[0] and one[0][-1].role == "assistant"]
    chosen = told[:: max(1, len(told) // count)][:count]
    equal, leading, passed = 0, 0, 0
    for history, row in track(chosen, "routing"):
        place = max(n for n, turn in enumerate(history) if turn.role == "user")
        first = agent.router.route(history[place].content, history[:place]).passed
        then = agent.router.route(row["question"], history).passed
        equal += bool(then) and first == then
        leading += next(
            (n for n, (a, b) in enumerate(zip(first, then, strict=False)) if a != b),
            min(len(first), len(then)),
        )
        passed += len(then)
    return {"dialogues": len(chosen), "same": equal, "leading": leading, "passed": passed}


def cut(entry: Entry, question: str, left: int) -> Entry:
    """The entry with the sentences that share most words with a question, in their order."""
    told = [piece for piece in re.split(r"(?<=[.!?])\s+|\n+", entry.answer) if piece.strip()]
    asked = set(words(question))
    ranked = sorted(range(len(told)), key=lambda n: -len(asked & set(words(told[n]))))
    return replace(entry, answer=" ".join(told[n] for n in sorted(ranked[:left])))


def cuts(encode: Encode, entries: dict[str, Entry], left: int) -> dict[str, float]:
    """Over the dialogues' wanted entries: tokens with and without the cut, and lost facts."""
    whole = short = asked = lost = 0
    for _, row in dialogues():
        wanted = [entries[name] for name in row["entry_ids"] if name in entries]
        if not wanted or not row.get("facts"):
            continue
        held = "\n".join(entry.answer for entry in wanted)
        if not facts_present(held, row["facts"]):
            continue
        shown = [cut(entry, row["question"], left) for entry in wanted]
        whole += sum(len(encode(text)) for text in render(wanted, "").entries)
        short += sum(len(encode(text)) for text in render(shown, "").entries)
        asked += 1
        lost += not facts_present("\n".join(entry.answer for entry in shown), row["facts"])
    return {
        "sentences": left,
        "questions": asked,
        "tokens": whole,
        "tokens cut": short,
        "lost a fact": lost,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bot", type=Path)
    parser.add_argument("--routed", type=int, default=0, help="dialogues to route")
    given = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(given.bot / "generator" / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    lines = (given.bot / "knowledge" / "entries.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [entry_from_json(json.loads(line)) for line in lines]
    english = [entry for entry in entries if entry.language == "en"]
    tails = list(shared(encode))
    told: dict[str, Any] = {
        "parts": parts(encode, english),
        "follow-ups": {
            "dialogues": len(tails),
            "tail tokens": sum(tail for tail, _, _ in tails),
            "shared at most": sum(same for _, same, _ in tails),
            "history tokens": sum(history for _, _, history in tails),
        },
        "cuts": [cuts(encode, {entry.id: entry for entry in english}, left) for left in LEFT],
    }
    if given.routed:
        told["routed"] = same_entries(Agent.load(given.bot, generate=False), given.routed)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

"""Measures how long the router takes, question by question; prints milliseconds.

    python tests/measure_routing.py BOT QUESTIONS.jsonl [--threads 2]

Every question is routed once, in a process that does nothing else, after ten to warm up: embedding,
search, reading and decision, without guards and without generation. Questions that ask several
things and follow-ups are searched for several times, and told apart.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from featherdesk.agent.commands import history_of
from featherdesk.agent.engine import Agent
from featherdesk.agent.rewrite import parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bot", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    router = Agent.load(given.bot, threads=given.threads, generate=False).router
    rows = [json.loads(line) for line in given.questions.read_text("utf-8").splitlines()]
    asked = [(r["question"], history_of(given.questions, n, r)) for n, r in enumerate(rows, 1)]
    took = []
    for question, history in [*asked[:10], *asked]:
        began = time.perf_counter()
        router.route(question, history)
        took.append((time.perf_counter() - began) * 1000)
    single = [not history and not parts(question) for question, history in asked]
    print(f"encoder {router.index.encoder.id}")
    names = (("one question", {True}), ("several, or a follow-up", {False}), ("all", {True, False}))
    for name, wanted in names:
        ms = [value for value, one in zip(took[10:], single, strict=True) if one in wanted]
        p50, p95 = np.quantile(ms, [0.5, 0.95])
        print(f"{name}: {len(ms)}, p50 {p50:.1f} ms, p95 {p95:.1f} ms")


if __name__ == "__main__":
    main()

"""Measures whether a risk that was set is kept, on questions that the bot was not built from.

    python tests/measure_risk.py BOT TEST.jsonl [--draw FOLDER]

For each risk the threshold is the one `routing.risk` would store: it comes from the bot's own
calibration. Answered are questions whose best score reaches it; wrong is an answer whose best entry
is not one of those wanted, or where no entry holds the answer. Questions are weighed to the traffic
the curve assumes (60 % in scope, 20 % near misses, 20 % out of scope). Prints a table with 95 %
bootstrap intervals (2,000 resamples of each group, seed 0); --draw writes the measured curve beside
the expected one.
"""

import argparse
from pathlib import Path

import numpy as np
from featherdesk.agent.encoder import is_latin
from featherdesk.agent.engine import Agent
from featherdesk.agent.evaluate import load_cases
from featherdesk.agent.progress import track
from featherdesk.agent.risk import TRAFFIC, Curve, Judged, draw
from numpy.typing import NDArray

RISKS = (0.02, 0.05, 0.10)
SEED, RESAMPLES = 0, 2000


def judged(agent: Agent, test: Path) -> list[list[Judged]]:
    """Score and right-or-wrong of every English question: in scope, near misses, out of scope."""
    groups: list[list[Judged]] = [[], [], []]
    known = [entry.id for entry in agent.router.index.entries]
    for case in track(load_cases(test, known), "routing"):
        if not is_latin(case.question):
            continue
        matches = agent.router.route(case.question, case.history).matches
        best = matches[0].score if matches else 0.0
        right = bool(matches) and matches[0].entry_id in case.entry_ids
        place = 1 if case.kind == "near_miss" else 2 if case.out_of_scope else 0
        groups[place].append((best, right and not case.out_of_scope))
    return groups


def kept(groups: list[list[Judged]], threshold: float) -> tuple[float, float, float, float]:
    """The share of traffic that is answered, the risk, and the risk's interval."""
    rng = np.random.default_rng(SEED)
    told = [np.array(group, float).reshape(-1, 2) for group in groups]

    def at(parts: list[NDArray[np.float64]]) -> tuple[float, float]:
        shares = [
            w * (part[:, 0] >= threshold) / len(part)
            for part, w in zip(parts, TRAFFIC, strict=True)
        ]
        answered = sum(float(share.sum()) for share in shares)
        wrong = sum(
            float((share * (1 - part[:, 1])).sum())
            for share, part in zip(shares, parts, strict=True)
        )
        return answered, wrong / answered if answered else 0.0

    coverage, risk = at(told)
    draws = [
        at([part[rng.integers(0, len(part), len(part))] for part in told])[1]
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return coverage, risk, float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bot", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--draw", type=Path, help="a folder for the curves")
    given = parser.parse_args()
    agent = Agent.load(given.bot, generate=False)
    groups = judged(agent, given.test)
    curve = agent.router.calibration.latin.curve
    print(f"{sum(map(len, groups))} questions: " + " / ".join(str(len(group)) for group in groups))
    print(
        "| risk set | threshold | expected coverage | answered | risk measured | 95 % interval | |"
    )
    print("|---|---|---|---|---|---|---|")
    for risk in RISKS:
        threshold = curve.threshold(risk)
        if threshold is None:
            print(f"| {risk:.0%} | no answer is that sure | 0 % | 0 % | | | |")
            continue
        coverage, wrong, low, high = kept(groups, threshold)
        verdict = "kept" if low <= risk else "broken"
        print(
            f"| {risk:.0%} | {threshold:.3f} | {curve.covered(risk):.1%} | {coverage:.1%} | "
            f"{wrong:.1%} | {low:.1%}-{high:.1%} | {verdict} |"
        )
    if given.draw:
        answer = agent.router.calibration.latin.answer
        draw([("expected", curve, answer), ("measured", Curve.of(*groups), answer)], given.draw)


if __name__ == "__main__":
    main()

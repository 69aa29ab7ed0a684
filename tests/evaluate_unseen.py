"""Scores an adapter on businesses it never saw: the DSTC9 FAQ, held out whole, in our rewording.

    python tests/evaluate_unseen.py ../shared/data/dstc9_faq_kb/knowledge.train.json GENERATOR

GENERATOR is a folder that `featherdesk export` wrote (a bot's `generator/` will do). Every
business becomes a bot of its own, with its own calibration; raw generation is compared with
sending the best entry's text.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import ENGLISH, open_encoder
from featherdesk.agent.engine import Agent
from featherdesk.agent.evaluate import Case, facts_present, score
from featherdesk.agent.generators import adapter_folder, card, ensure_encoder
from featherdesk.agent.index import Index
from featherdesk.agent.progress import track
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.reranker import RERANKER, CrossEncoder
from featherdesk.agent.router import Router
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.stages import BotConfig
from featherdesk.agent.types import Entry, Turn

ROWS = sorted((Path(__file__).parent / "data").glob("dstc9_rewordings_*.jsonl"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A reworded question and the business it is put to."""

    business: str
    case: Case


def load_rows() -> list[Asked]:
    """Every reworded question."""
    found = []
    for path in ROWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            turns = tuple(Turn(t["role"], t["content"]) for t in row.get("history", []))
            found.append(
                Asked(
                    row["business"],
                    Case(
                        row["id"],
                        row["question"],
                        turns,
                        tuple(row["entry_ids"]),
                        tuple(tuple(fact) for fact in row["facts"]),
                        row["kind"],
                        bool(row.get("out_of_scope")),
                    ),
                )
            )
    return found


def load_agents(faq: Path, generator: Path, names: set[str]) -> dict[str, Agent]:
    """One agent a business, sharing encoder and generator."""
    data = json.loads(faq.read_text(encoding="utf-8"))
    encoder = open_encoder(ENGLISH, ensure_encoder(ENGLISH, lambda _: None), 2)
    reranker = CrossEncoder(ensure_encoder(RERANKER, lambda _: None), 2)
    shared = OnnxGenerator(generator, 2)
    folder = adapter_folder("grounded")
    told = card(folder) if folder else {}
    agents = {}
    for name in sorted(names):
        domain, number = name.split("/")
        docs = data[domain][number]["docs"]
        entries = [Entry(f"{name}/{key}", doc["title"], doc["body"]) for key, doc in docs.items()]
        index = Index.build(entries, encoder)
        manifest = Manifest(
            name,
            "",
            "",
            "grounded",
            contract_hash(),
            ("en",),
            encoder.id,
            len(entries),
            ("en",),
            float(str(told["refusal_threshold"])),
            float(str(told["refusal_slope"])),
        )
        router = Router(index, calibrate(index, reranker), reranker=reranker)
        agents[name] = Agent(router, shared, BotConfig(), manifest, generator)
    return agents


def main(faq: Path, generator: Path) -> None:
    rows = load_rows()
    agents = load_agents(faq, generator, {row.business for row in rows})
    found: dict[str, list[dict[str, bool]]] = defaultdict(list)
    for row in track(rows, "asking"):
        agent = agents[row.business]
        reply = agent.reply(row.case.question, row.case.history)
        judged = score(agent, row.case, reply)
        best = agent.entry(reply.route.matches[0].entry_id) if reply.route.matches else None
        found[row.case.kind].append(
            {
                "right entry first": judged.first,
                "refused": judged.refused,
                "raw correct": judged.correct_raw,
                "sent correct": judged.correct_sent,
                "best entry's text correct": best is not None
                and facts_present(best.answer, row.case.facts),
            }
        )
    print(f"{date.today()}  {len(rows)} questions to {len(agents)} businesses")
    for kind, results in found.items():
        told = ", ".join(
            f"{name} {sum(r[name] for r in results) / len(results):.1%}" for name in results[0]
        )
        print(f"{kind} ({len(results)}): {told}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

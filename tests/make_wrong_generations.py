"""What models of many kinds write to the sample bot's questions, right or wrong.

    python tests/make_wrong_generations.py BOT OUT.jsonl [NAME=GENERATOR ...]

Asks the English questions of models/sample/{dev,test}.jsonl that have one answer of: the base
model (`none`), the adapters `grounded` and `sample`, damaged copies of `grounded` (made beside
OUT), and further generator folders, such as half-trained ones. Every line tells the model, the
file and id of the question, the entries shown, the reply, whether it holds the facts, and whether
the entry that does was shown, and whether it refused. What goes in circles is cut
there, and all at 96 tokens. A run that was cut off goes on.
"""

import json
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from featherdesk.agent.engine import Agent
from featherdesk.agent.evaluate import Case, facts_present, load_cases
from featherdesk.agent.generators import adapter_folder, card, ensure_generator
from featherdesk.agent.progress import track
from featherdesk.agent.prompt import REFUSAL, render
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.types import Route, RouteKind
from featherdesk.agent.writing import refusal_threshold

sys.path.insert(0, str(Path(__file__).parent))
from measure_grounding import half_of

BASE = "smollm2-135m-instruct"
LONGEST = 96
SAMPLE = Path(__file__).parents[1] / "models" / "sample"
TURN, THREADS = 24, 2
DAMAGES: dict[str, tuple[str, str]] = {
    "shuffled scales": ("shuffle", r"layers\.(11|12|13)\."),
    "MLPs taken away": ("zero", r"layers\.(13|15|17|19|21)\.mlp"),
    "attention taken away": ("zero", r"layers\.(9|13|17|21)\.attn"),
    "noisy scales": ("noise", r"layers\."),
}
NOISE = 0.3


def damaged(source: Path, target: Path, way: str, where: str) -> Path:
    """A copy of a generator with the int4 scales of some tensors shuffled, zeroed or noisy."""
    if (target / "model.onnx.data").exists():
        return target
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    model = onnx.load(str(part / "model.onnx"), load_external_data=False)
    weights = np.memmap(part / "model.onnx.data", np.uint8, "r+")
    rng = np.random.default_rng(5)
    for tensor in model.graph.initializer:
        if not re.search(where, tensor.name) or not tensor.name.endswith("_scale"):
            continue
        told = {item.key: item.value for item in tensor.external_data}
        begin, length = int(told["offset"]), int(told["length"])
        scales = weights[begin : begin + length].view(np.float32)
        if way == "shuffle":
            scales[:] = rng.permutation(scales)
        elif way == "zero":
            scales[:] = 0
        else:
            scales *= np.exp(rng.normal(0, NOISE, len(scales))).astype(np.float32)
    weights.flush()
    part.rename(target)
    return target


def cases_of(agent: Agent) -> list[tuple[str, Case]]:
    """English questions with one answer, shuffled, three of the reported half for one other."""
    known = [entry.id for entry in agent.router.index.entries]
    found = [
        (name, case)
        for name in ("dev", "test")
        for case in load_cases(SAMPLE / f"{name}.jsonl", known)
        if case.facts and not case.out_of_scope and case.question.isascii()
    ]
    random.Random(5).shuffle(found)
    first = [one for one in found if half_of(one[1].entry_ids[0]) == "report"]
    rest = [one for one in found if one not in first]
    mixed: list[tuple[str, Case]] = []
    while first or rest:
        mixed += [first.pop() for _ in range(min(3, len(first)))] + rest[:1]
        rest = rest[1:]
    return mixed


def written(agent: Agent, generator: OnnxGenerator, case: Case, route: Route) -> str:
    """What the model writes, unguarded."""
    entries = [agent.entry(entry_id) for entry_id in route.passed]
    blocks = render(entries, case.question, case.history)
    ids = [i for text in blocks.texts for i in generator.encode(text)]
    limit = refusal_threshold(agent.manifest, agent.config.generation, route.confidence)
    veto = (generator.encode(REFUSAL)[0], limit)
    steps = generator.generate(
        ids,
        max_tokens=LONGEST,
        deadline=time.monotonic() + 300,
        stopped=lambda: False,
        first_veto=veto,
    )
    tokens: list[int] = []
    for step in steps:
        tokens.append(step.token)
        if circles(tokens):
            break
    return generator.decode(tokens).strip()


def circles(tokens: list[int]) -> bool:
    """Whether the same 4 to 24 tokens came four times in a row: nothing else will follow."""
    return any(
        len(tokens) >= 4 * size and tokens[-size:] * 4 == tokens[-4 * size :]
        for size in range(4, 25)
    )


def rows(
    agent: Agent,
    name: str,
    generator: OnnxGenerator,
    asked: list[tuple[str, Case]],
    routes: dict[str, Route],
) -> Iterator[dict[str, Any]]:
    for file, case in track(asked, name):
        if case.id not in routes:
            routes[case.id] = agent.router.route(case.question, case.history)
        route = routes[case.id]
        if route.kind is not RouteKind.ANSWER or route.questions:
            continue
        reply = written(agent, generator, case, route)
        yield {
            "model": name,
            "case": f"{file}/{case.id}",
            "entries": list(route.passed),
            "reply": reply,
            "right": facts_present(reply, case.facts),
            "shown": all(wanted in route.passed for wanted in case.entry_ids),
            "refused": reply.startswith(REFUSAL),
        }


def main(bot: Path, out: Path, further: dict[str, Path]) -> None:
    agent = Agent.load(bot, threads=THREADS, generate=False)
    grounded = ensure_generator(BASE, adapter_folder("grounded"), print)
    told = card(adapter_folder("grounded") or Path())
    ours = replace(
        agent.manifest,
        refusal=float(str(told["refusal_threshold"])),
        refusal_slope=float(str(told["refusal_slope"])),
    )
    free = replace(agent.manifest, refusal=0.5, refusal_slope=0.0)
    models = {"base": (ensure_generator(BASE, None, print), free)}
    models |= {name: (folder, free) for name, folder in further.items()}
    for name, (way, where) in DAMAGES.items():
        folder = out.parent / f"damaged-{name.replace(' ', '-')}"
        models[name] = (damaged(grounded, folder, way, where), ours)
    models["grounded"] = (grounded, ours)
    cases = cases_of(agent)
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    done = {(row["model"], row["case"]) for row in map(json.loads, lines)}
    routes: dict[str, Route] = {}
    for start in range(0, len(cases), TURN):
        for name, (folder, manifest) in models.items():
            turn = [
                c for c in cases[start : start + TURN] if (name, f"{c[0]}/{c[1].id}") not in done
            ]
            if not turn:
                continue
            generator = OnnxGenerator(folder, THREADS)
            with out.open("a", encoding="utf-8") as file:
                served = replace(agent, manifest=manifest)
                for row in rows(served, name, generator, turn, routes):
                    file.write(json.dumps(row) + "\n")
                    file.flush()


if __name__ == "__main__":
    pairs = [argument.partition("=") for argument in sys.argv[3:]]
    main(Path(sys.argv[1]), Path(sys.argv[2]), {name: Path(path) for name, _, path in pairs})

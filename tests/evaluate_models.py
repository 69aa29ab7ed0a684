"""The table of docs/evaluation.md: models in torch and ONNX beside retrieval and BM25 alone.

    python tests/evaluate_models.py BOT models/sample/test.jsonl [ADAPTER ...]

Each adapter (`none` is the base model) is merged and asked through the engine of BOT, once as
fp32 torch and once as the int4 ONNX generator. torch answers in batches: a first pass notes the
prompts, a second serves what was written.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from featherdesk.agent.engine import Agent
from featherdesk.agent.evaluate import Case, Scored, facts_present, load_cases, score, summary
from featherdesk.agent.generators import adapter_folder, card, ensure_generator
from featherdesk.agent.progress import track
from featherdesk.agent.runtime import OnnxGenerator, Step
from featherdesk.compress.assemble import assemble_base
from featherdesk.compress.model import load_model, load_tokenizer, merge
from numpy.typing import NDArray

BASE = "smollm2-135m-instruct"
BATCH = 12
MEASURES = (
    "right_entry_first",
    "correct_raw",
    "correct_sent",
    "near_miss",
    "out_of_scope",
    "in_scope_refused",
    "author_model",
    "author_fallback",
)
Prompt = tuple[tuple[int, ...], float]


@dataclass
class Batched:
    """A torch model as the engine's generator; unknown prompts are noted and answered with ''."""

    model: Any
    tokenizer: Any
    end: int
    written: dict[Prompt, list[int]] = field(default_factory=dict)
    noted: dict[Prompt, tuple[int, float]] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def first(self, ids: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
        raise NotImplementedError("only whole answers are asked for")

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
    ) -> Iterator[Step]:
        token, threshold = first_veto or (-1, 2.0)
        key = (tuple(ids), round(threshold, 6))
        if key not in self.written:
            self.noted[key] = (token, threshold)
        for token in self.written.get(key, []):
            yield Step(token, 1.0)

    @torch.no_grad()
    def write(self) -> None:
        """Answer every noted prompt, greedily, in batches of like length."""
        keys = sorted(self.noted, key=lambda key: len(key[0]))
        for start in track(range(0, len(keys), BATCH), "torch"):
            batch = keys[start : start + BATCH]
            longest = max(len(ids) for ids, _ in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            seen = torch.zeros_like(ids)
            for place, (prompt, _) in enumerate(batch):
                ids[place, longest - len(prompt) :] = torch.tensor(prompt)
                seen[place, longest - len(prompt) :] = 1
            vetoes = [self.noted[key] for key in batch]

            def veto(
                fed: torch.Tensor, logits: torch.Tensor, n: int = longest, v: Any = vetoes
            ) -> torch.Tensor:
                if fed.shape[1] > n:
                    return logits
                chances = logits.softmax(-1)
                for place, (token, threshold) in enumerate(v):
                    if token >= 0:
                        taken = float(chances[place, token]) >= threshold
                        logits[place, token] = torch.inf if taken else -torch.inf
                return logits

            out = self.model.generate(
                input_ids=ids,
                attention_mask=seen,
                max_new_tokens=192,
                do_sample=False,
                eos_token_id=self.end,
                pad_token_id=self.end,
                logits_processor=[veto],
            )
            for key, tokens in zip(batch, out[:, longest:].tolist(), strict=True):
                stop = tokens.index(self.end) if self.end in tokens else len(tokens)
                self.written[key] = tokens[:stop]
        self.noted = {}


def ask(agent: Agent, cases: Sequence[Case]) -> list[Scored]:
    replies = [agent.ask(case.question, case.history) for case in cases]
    while isinstance(agent.generator, Batched) and agent.generator.noted:
        agent.generator.write()
        replies = [agent.ask(case.question, case.history) for case in cases]
    return [score(agent, case, reply) for case, reply in zip(cases, replies, strict=True)]


def line(name: str, scored: Sequence[Scored]) -> str:
    told = summary(scored)
    rates = {**told["all"]}
    for kind in ("near_miss", "out_of_scope"):
        if kind in told["by_kind"]:
            rates[kind] = told["by_kind"][kind]["out_of_scope_refused"]
    cells = [f"{rates[m]['value']:.1%}" if m in rates else "" for m in MEASURES]
    return f"| {name} | " + " | ".join(cells) + " |"


def alone(name: str, agent: Agent, cases: Sequence[Case], best: Callable[[Case], str]) -> str:
    """Sending the best entry's text, always: what a search box would do."""
    inside = [case for case in cases if not case.out_of_scope]
    found = [best(case) for case in inside]
    first = np.mean([f in c.entry_ids for f, c in zip(found, inside, strict=True)])
    right = np.mean(
        [facts_present(agent.entry(f).answer, c.facts) for f, c in zip(found, inside, strict=True)]
    )
    return f"| {name} | {first:.1%} | {right:.1%} | {right:.1%} | 0.0% | 0.0% | 0.0% | | |"


def main(bot: Path, test: Path, adapters: Sequence[str]) -> None:
    agent = Agent.load(bot, generate=False)
    index = agent.router.index
    cases = [c for c in load_cases(test, (e.id for e in index.entries)) if c.kind != "chinese"]

    def lexical(case: Case) -> str:
        scores = index.lexical.scores(case.question)
        return index.entries[int(index.owner[int(scores.argmax())])].id

    def routed(case: Case) -> str:
        matches = agent.router.route(case.question, case.history).matches
        return (matches or agent.router.nearest(case.question))[0].entry_id

    print(f"{len(cases)} English questions of {test.name}, {len(index.entries)} entries")
    print(f"| | {' | '.join(m.replace('_', ' ') for m in MEASURES)} |")
    print("|---" * (len(MEASURES) + 1) + "|")
    print(alone("BM25 alone", agent, cases, lexical))
    print(alone("retrieval alone", agent, cases, routed), flush=True)
    for name in adapters:
        adapter = adapter_folder("" if name == "none" else name)
        told = card(adapter) if adapter else {}
        manifest = replace(
            agent.manifest,
            refusal=float(str(told.get("refusal_threshold", 0.5))),
            refusal_slope=float(str(told.get("refusal_slope", 0.0))),
        )
        label = "base model" if adapter is None else name
        began = time.monotonic()
        onnx = OnnxGenerator(ensure_generator(BASE, adapter, lambda _: None), 2)
        served = replace(agent, manifest=manifest, generator=onnx)
        print(line(f"{label}, int4 ONNX", ask(served, cases)), flush=True)
        base = assemble_base(BASE)
        with tempfile.TemporaryDirectory() as scratch:
            folder = base
            if adapter is not None:
                folder = Path(scratch) / "merged"
                merge(base, adapter, folder)
            end = json.loads((folder / "config.json").read_text())["eos_token_id"]
            written = Batched(load_model(folder).eval(), load_tokenizer(folder), end)
            served = replace(agent, manifest=manifest, generator=written)
            print(line(f"{label}, fp32 torch", ask(served, cases)), flush=True)
        print(f"{label}: {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["none", "grounded", "sample"])

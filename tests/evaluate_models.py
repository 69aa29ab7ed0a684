"""The table of docs/evaluation.md: models in torch and ONNX beside retrieval and BM25 alone.

    python tests/evaluate_models.py BOT models/sample/test.jsonl [ADAPTER ...]

Each adapter (`none` is the base model) is merged and asked through the engine of BOT, once as
fp32 torch (also with every entry prefilled apart) and once as the int4 ONNX generator. torch
answers in batches: a first pass notes the prompts, a second serves what was written.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
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
from transformers import DynamicCache

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


@dataclass(frozen=True, slots=True)
class Noted:
    """What a prompt needs besides its ids: the veto on its first token, and its blocks."""

    veto: tuple[int, float]
    blocks: tuple[tuple[int, int], ...]


@dataclass
class Batched:
    """A torch model as the engine's generator; unknown prompts are noted and answered with ''.

    With `apart` every entry of a prompt sees only itself, as when it is prefilled once and kept.
    """

    model: Any
    tokenizer: Any
    end: int
    apart: bool = False
    written: dict[Prompt, list[int]] = field(default_factory=dict)
    noted: dict[Prompt, Noted] = field(default_factory=dict)
    stores: bool = False

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        raise NotImplementedError("only whole answers are asked for")

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        deadline: float,
        stopped: Callable[[], bool],
        first_veto: tuple[int, float] | None = None,
        blocks: Sequence[int] = (),
        sources: Sequence[Sequence[int]] = (),
        user: str = "",
    ) -> Iterator[Step]:
        assert first_veto is not None
        key = (tuple(ids), round(first_veto[1], 6))
        if key not in self.written:
            self.noted[key] = Noted(first_veto, _blocks(blocks, len(ids)))
        for token in self.written.get(key, []):
            yield Step(token)

    def write(self) -> None:
        """Answer every noted prompt, greedily, in batches of like length."""
        keys = sorted(self.noted, key=lambda key: len(key[0]))
        for start in track(range(0, len(keys), BATCH), "torch"):
            batch = keys[start : start + BATCH]
            answers = self._batch([ids for ids, _ in batch], [self.noted[key] for key in batch])
            self.written.update(zip(batch, answers, strict=True))
        self.noted = {}

    @torch.no_grad()
    def _batch(self, prompts: Sequence[Sequence[int]], noted: Sequence[Noted]) -> list[list[int]]:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        seen = torch.zeros_like(ids)
        allowed = torch.eye(longest, dtype=torch.bool).repeat(len(prompts), 1, 1)
        for place, (prompt, note) in enumerate(zip(prompts, noted, strict=True)):
            pad = longest - len(prompt)
            ids[place, pad:] = torch.tensor(prompt)
            seen[place, pad:] = 1
            allowed[place, pad:, pad:] = torch.ones(len(prompt), len(prompt)).tril().bool()
            for begin, end in note.blocks[:-1] if self.apart else ():
                allowed[place, pad + begin : pad + end, pad : pad + begin] = False
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        bias = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
        cache = DynamicCache()
        told = self.model(
            input_ids=ids,
            attention_mask=bias[:, None],
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        )
        logits = told.logits[:, -1]
        chances = logits.softmax(-1)
        for place, note in enumerate(noted):
            token, threshold = note.veto
            logits[place, token] = torch.inf if chances[place, token] >= threshold else -torch.inf
        answers: list[list[int]] = [[] for _ in prompts]
        open_ones = set(range(len(prompts)))
        position = positions[:, -1:]
        for _ in range(192):
            taken = logits.argmax(-1)
            for place in list(open_ones):
                if int(taken[place]) == self.end:
                    open_ones.discard(place)
                else:
                    answers[place].append(int(taken[place]))
            if not open_ones:
                break
            seen = torch.cat([seen, torch.ones(len(prompts), 1, dtype=torch.long)], 1)
            position = position + 1
            logits = self.model(
                input_ids=taken[:, None],
                attention_mask=seen,
                position_ids=position,
                past_key_values=cache,
            ).logits[:, -1]
        return answers


def _blocks(lengths: Sequence[int], total: int) -> tuple[tuple[int, int], ...]:
    """The blocks that make up a prompt of `total` tokens, as (begin, end)."""
    ends = [*accumulate(lengths), total]
    return tuple(zip([0, *ends], ends, strict=False))


def ask(agent: Agent, cases: Sequence[Case]) -> list[Scored]:
    replies = [agent.reply(case.question, case.history) for case in cases]
    while isinstance(agent.generator, Batched) and agent.generator.noted:
        agent.generator.write()
        replies = [agent.reply(case.question, case.history) for case in cases]
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
            model, tokenizer = load_model(folder).eval(), load_tokenizer(folder)
            for apart in (False, True) if adapter is not None else (False,):
                served = replace(
                    agent, manifest=manifest, generator=Batched(model, tokenizer, end, apart)
                )
                kind = "fp32 torch, entries prefilled apart" if apart else "fp32 torch"
                print(line(f"{label}, {kind}", ask(served, cases)), flush=True)
        print(f"{label}: {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["none", "grounded", "sample"])

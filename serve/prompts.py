"""The questions that a bot is measured with, and the prompts that its model reads for them.

A prompt is taken where the engine hands it to the generator, so it is the one that is served.
Knows nothing of who answers it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..agent.artifacts import Manifest
from ..agent.commands import history_of, read_questions
from ..agent.engine import Agent
from ..agent.errors import ArtifactError, FeatherdeskError
from ..agent.progress import track
from ..agent.runtime import Step
from ..agent.types import Turn

__all__ = ["Gathered", "Prompt", "Recorder", "gather", "needs_generator", "shorter"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question with what the model reads: token ids that begin with blocks of the lengths
    `blocks`, the text of every block, texts to copy from, at most `limit` tokens to write."""

    id: str
    question: str
    history: tuple[Turn, ...]
    ids: tuple[int, ...]
    texts: tuple[str, ...]
    blocks: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    limit: int

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """The token ids of every block, the question's last."""
        ends = list(accumulate(self.blocks, initial=0))
        return [self.ids[a:b] for a, b in pairwise(ends)] + [self.ids[ends[-1] :]]

    def order(self) -> dict[str, Any]:
        """What a process is told that answers it."""
        return {
            "ids": self.ids,
            "texts": self.texts,
            "blocks": self.blocks,
            "sources": self.sources,
            "limit": self.limit,
        }


@dataclass(frozen=True, slots=True)
class Gathered:
    """Prompts, how many questions were left out for what reason, and a prompt to warm up with."""

    prompts: tuple[Prompt, ...]
    left_out: dict[str, int]
    warm: Prompt | None = None


@dataclass(slots=True)
class Recorder:
    """A generator that writes nothing and keeps what it was asked to write from."""

    tokenizer: Tokenizer
    texts: dict[tuple[int, ...], str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    stores: bool = False

    def encode(self, text: str) -> list[int]:
        """Token ids, as the real one's."""
        ids = list(self.tokenizer.encode(text, add_special_tokens=False).ids)
        self.texts[tuple(ids)] = text
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text, as the real one's."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def first(
        self, ids: Sequence[int], tokens: Sequence[int], blocks: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        """Nothing is likely."""
        del ids, blocks
        return np.zeros(len(tokens), np.float32)

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
        **more: object,
    ) -> Iterator[Step]:
        """No token."""
        del deadline, stopped, first_veto, more
        self.asked.append(
            {"ids": tuple(ids), "limit": max_tokens, "blocks": blocks, "sources": sources}
        )
        return iter(())


def needs_generator(bot: Path, manifest: Manifest) -> None:
    """Say no to a bot whose model writes nothing.

    Raises:
        ArtifactError: it has no generator.
    """
    if not manifest.writes or not (bot / "generator").is_dir():
        raise ArtifactError(
            f"{bot} has no generator (generation.writes is empty): no model writes its answers, "
            "so there is nothing to measure; build it with a language that the model writes"
        )


def gather(bot: Path, given: Path | None, limit: int) -> Gathered:
    """Up to `limit` prompts: of a file of questions, else of the bot's own other wordings.

    Questions that no model answers are left out, those of several parts (each has a prompt of its
    own), and what was asked before: a cache would answer it. One more prompt, or the last, is for
    warming up.

    Raises:
        FeatherdeskError: the bot or the file cannot be used, or no question is left.
    """
    rows = list(_given(given) if given else _own(bot))
    agent = Agent.load(bot, generate=False)
    recorder = Recorder(Tokenizer.from_file(str(bot / "generator" / "tokenizer.json")))
    agent.generator = recorder
    left_out = {"asked before": 0, "not the model's": 0, "several parts": 0}
    seen: set[tuple[str, tuple[Turn, ...]]] = set()
    prompts: list[Prompt] = []
    for name, question, history in track(rows, "reading questions"):
        if len(prompts) > limit:
            break
        key = (" ".join(question.lower().split()), history)
        why = "asked before" if key in seen else _recorded(agent, recorder, question, history)
        seen.add(key)
        if why:
            left_out[why] += 1
            continue
        prompts.append(_prompt(recorder, f"{len(prompts)}:{name}", question, history))
    if not prompts:
        raise FeatherdeskError(
            f"{given or bot}: the model answers none of the {len(rows)} questions; give a file of "
            "questions that the FAQ answers with --questions"
        )
    kept = tuple(prompts[:-1]) or tuple(prompts)
    return Gathered(kept, left_out, prompts[-1])


def shorter(prompt: Prompt) -> Prompt:
    """The prompt with the best entry alone."""
    if len(prompt.texts) < 3:
        return prompt
    parts = prompt.parts
    kept = [0, 1, len(parts) - 1]
    return replace(
        prompt,
        ids=tuple(token for place in kept for token in parts[place]),
        texts=(prompt.texts[0], prompt.texts[1], prompt.texts[-1]),
        blocks=prompt.blocks[:2],
        sources=prompt.sources[:1],
    )


def _recorded(agent: Agent, recorder: Recorder, question: str, history: tuple[Turn, ...]) -> str:
    """Have the engine ask the recorder; why the question is left out, else nothing."""
    recorder.asked.clear()
    recorder.texts.clear()
    reply = agent.reply(question, history)
    if not recorder.asked:
        return "not the model's"
    return "several parts" if len(reply.route.questions) > 1 else ""


def _prompt(recorder: Recorder, name: str, question: str, history: tuple[Turn, ...]) -> Prompt:
    told = recorder.asked[0]
    prompt = Prompt(
        name,
        question,
        history,
        told["ids"],
        (),
        tuple(told["blocks"]),
        tuple(tuple(source) for source in told["sources"]),
        told["limit"],
    )
    return replace(prompt, texts=tuple(recorder.texts.get(part, "") for part in prompt.parts))


def _given(path: Path) -> Iterator[tuple[str, str, tuple[Turn, ...]]]:
    for number, row in read_questions(path):
        if not row.get("out_of_scope"):
            name = str(row.get("id") or number)
            yield name, row["question"], tuple(history_of(path, number, row))


def _own(bot: Path) -> Iterator[tuple[str, str, tuple[Turn, ...]]]:
    """Every other wording of every entry, the first of each before the second of any."""
    lines = (bot / "knowledge" / "entries.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    most = max((len(entry["variants"]) for entry in entries), default=0)
    for place in range(most):
        for entry in entries:
            if place < len(entry["variants"]):
                yield entry["id"], entry["variants"][place], ()
    for entry in entries:
        yield entry["id"], entry["question"], ()

"""What the model writes to a message, and the reply that becomes of it.

Knows nothing of how the message was routed, nor of who reads the reply.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from .answers import AnswerCache, KeptAnswer, answer_key, entry_version, is_private
from .artifacts import Manifest
from .draft import Draft
from .errors import BusyError
from .grounding import StreamGuard, sources_of
from .prompt import END_OF_TURN, REFUSAL, render
from .replies import Curator, cited
from .runtime import Generator, Step
from .scoring import from_odds, log_odds
from .stages import Generation
from .support import load_support
from .texts import language_of
from .types import Author, Entry, Reply, Route, Turn

__all__ = ["Writing", "refusal_threshold"]


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked, the entries that are shown and the turns that are read with it."""

    asked: str
    shown: Sequence[Entry]
    turns: tuple[Turn, ...] = ()


@dataclass(slots=True)
class Writing:
    """The writing of one reply from the `entries` that passed, best first.

    A message of several questions is answered one by one, each from its own entry.
    """

    generator: Generator
    settings: Generation
    manifest: Manifest
    route: Route
    question: str
    history: tuple[Turn, ...]
    entries: Sequence[Entry]
    stopped: Callable[[], bool]
    answers: AnswerCache | None = None
    user: str = ""
    drafts: list[Draft] = field(default_factory=list)

    @property
    def checked(self) -> float:
        """Milliseconds that checking took so far."""
        return sum(draft.checked for draft in self.drafts)

    def deltas(self) -> Iterator[str]:
        """What is written, released as far as the sources hold it."""
        deadline = time.monotonic() + self.settings.timeout
        tasks = self._tasks()
        # One of several parts is never refused.
        limit = 2.0 if len(tasks) > 1 else self._limit()
        for task in tasks:
            draft = Draft(_guard(task))
            self.drafts.append(draft)
            opening = "\n\n" if len(self.drafts) > 1 else ""
            try:
                for delta in self._recalled_or_written(draft, task, deadline, limit):
                    yield opening + delta
                    opening = ""
            except BusyError:
                if draft is self.drafts[0] and not draft.spent:
                    raise
                draft.failed = True  # nobody who was half answered is sent away
            if not draft.good:
                return

    def reply(self, curator: Curator, ms: dict[str, float]) -> Reply:
        """The reply of what was written; the curator's where it cannot be sent."""
        told = self._judged(curator, ms)
        return replace(
            told,
            prompt_tokens=sum(draft.prompt_tokens for draft in self.drafts),
            tokens=sum(draft.spent + len(draft.tokens) for draft in self.drafts),
            cached=all(draft.kept for draft in self.drafts),
        )

    def _judged(self, curator: Curator, ms: dict[str, float]) -> Reply:
        raw = "\n\n".join(draft.raw.strip() for draft in self.drafts)
        last = self.drafts[-1]
        if last.refused:
            refused = curator.refused(self.route, self.question, ms)
            return replace(refused, raw_text=raw, author=Author.MODEL)
        if not last.good:
            curated = curator.from_entries(self.route, Author.FALLBACK, ms)
            return replace(curated, raw_text=raw, unsupported=last.guard.failed)
        return Reply(
            text=raw,
            raw_text=raw,
            route=self.route,
            author=Author.MODEL,
            ms=ms,
            citations=cited(raw, self.entries),
            model=self.manifest.adapter,
        )

    def _tasks(self) -> list[_Task]:
        """The message, or its parts."""
        parts = zip(self.route.questions, self.entries, strict=False)
        tasks = [_Task(asked, [entry]) for asked, entry in parts]
        return tasks or [_Task(self.question, self.entries, self.history)]

    def _limit(self) -> float:
        """How likely a refusal must be to be taken."""
        return refusal_threshold(self.manifest, self.settings, self.route.confidence)

    def _recalled_or_written(
        self, draft: Draft, task: _Task, deadline: float, limit: float
    ) -> Iterator[str]:
        """The deltas of a draft: of what was kept, or else of what is written now, and kept."""
        asked, turns = task.asked, task.turns
        if self.answers is None or is_private(asked, turns, task.shown):
            yield from self._written(draft, task, deadline, limit)
            return
        versions = tuple(entry_version(entry) for entry in task.shown)
        key = answer_key(self._version(), asked, language_of(asked), turns, versions)
        kept = self.answers.get(key, limit)
        if kept is not None:
            yield from draft.recalled(kept)
            return
        yield from self._written(draft, task, deadline, limit)
        if draft.raw.strip() and not (draft.refused or draft.failed or self.stopped()):
            self.answers.add(key, KeptAnswer(draft.raw, limit, versions, draft.guard.failed))

    def _written(self, draft: Draft, task: _Task, deadline: float, limit: float) -> Iterator[str]:
        """The deltas of what the model writes. Where it read the entries one by one and the check
        rejects it, it writes once more with all of them in view: it has mixed some up."""
        prompt = render(task.shown, task.asked, task.turns)
        blocks = [self.generator.encode(text) for text in prompt.texts]
        whole = [token for block in blocks for token in block]
        draft.prompt_tokens = len(whole)
        yield from draft.deltas(self.generator, self._steps(blocks, task.shown, deadline, limit))
        if draft.guard.failed and self.generator.stores and not self.stopped():
            draft.again(_guard(task))
            draft.prompt_tokens += len(whole)
            steps = self._steps([whole], task.shown, deadline, limit)
            yield from draft.deltas(self.generator, steps)

    def _version(self) -> str:
        """Names the generator with the settings that change what it writes."""
        files = sorted(self.manifest.files.items())
        told = [item for item in files if item[0].startswith("generator/")]
        settings = (self.settings.max_tokens, self.settings.stored_mb, self.manifest.blocks)
        return repr((self.manifest.prompt_contract, self.manifest.adapter, told, settings))

    def _steps(
        self,
        blocks: Sequence[Sequence[int]],
        shown: Sequence[Entry],
        deadline: float,
        limit: float,
    ) -> Iterator[Step]:
        """The greedy steps after a prompt; all its blocks but the question may be kept."""
        encode = self.generator.encode
        return self.generator.generate(
            [token for block in blocks for token in block],
            blocks=[len(block) for block in blocks[:-1]],
            sources=[encode(f"{entry.answer}{END_OF_TURN}") for entry in shown],
            max_tokens=self.settings.max_tokens,
            deadline=deadline,
            stopped=self.stopped,
            first_veto=(encode(REFUSAL)[0], limit),
            user=self.user,
        )


def _guard(task: _Task) -> StreamGuard:
    return StreamGuard(sources_of(task.shown), task.asked, load_support())


def refusal_threshold(manifest: Manifest, settings: Generation, confidence: float) -> float:
    """How likely the model's refusal must be to be taken, at a confidence of the router."""
    if settings.refusal >= 0:
        return settings.refusal
    return from_odds(log_odds(manifest.refusal) + manifest.refusal_slope * log_odds(confidence))

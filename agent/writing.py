"""What the model writes to a message, and the reply that becomes of it.

Knows nothing of how the message was routed, nor of who reads the reply.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from .artifacts import Manifest
from .draft import Draft
from .grounding import StreamGuard, sources_of
from .prompt import END_OF_TURN, REFUSAL, render
from .replies import Curator, cited
from .runtime import Generator, Step
from .scoring import from_odds, log_odds
from .stages import Generation
from .support import load_support
from .types import Author, Entry, Reply, Route, Turn

__all__ = ["Writing", "refusal_threshold"]


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
    drafts: list[Draft] = field(default_factory=list)

    @property
    def checked(self) -> float:
        """Milliseconds that checking took so far."""
        return sum(draft.checked for draft in self.drafts)

    def deltas(self) -> Iterator[str]:
        """What is written, released as far as the sources hold it."""
        deadline = time.monotonic() + self.settings.timeout
        tasks, limit = self._tasks(), self._limit()
        for asked, shown, turns in tasks:
            blocks = [self.generator.encode(text) for text in render(shown, asked, turns).texts]
            guard = StreamGuard(sources_of(shown), asked, load_support())
            draft = Draft(guard, sum(map(len, blocks)))
            self.drafts.append(draft)
            opening = "\n\n" if len(self.drafts) > 1 else ""
            steps = self._steps(blocks, shown, deadline, limit)
            for delta in draft.deltas(self.generator, steps):
                yield opening + delta
                opening = ""
            if not draft.good:
                return

    def reply(self, curator: Curator, ms: dict[str, float]) -> Reply:
        """The reply of what was written; the curator's where it cannot be sent."""
        told = self._judged(curator, ms)
        return replace(
            told,
            prompt_tokens=sum(draft.prompt_tokens for draft in self.drafts),
            tokens=sum(len(draft.tokens) for draft in self.drafts),
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

    def _tasks(self) -> list[tuple[str, Sequence[Entry], tuple[Turn, ...]]]:
        """What is asked, the entries that are shown and the turns that are read with it."""
        parts: list[tuple[str, Sequence[Entry], tuple[Turn, ...]]] = [
            (asked, [entry], ())
            for asked, entry in zip(self.route.questions, self.entries, strict=False)
        ]
        return parts or [(self.question, self.entries, self.history)]

    def _limit(self) -> float:
        """How likely a refusal must be to be taken; one of several parts is never refused."""
        if len(self._tasks()) > 1:
            return 2.0
        return refusal_threshold(self.manifest, self.settings, self.route.confidence)

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
        )


def refusal_threshold(manifest: Manifest, settings: Generation, confidence: float) -> float:
    """How likely the model's refusal must be to be taken, at a confidence of the router."""
    if settings.refusal >= 0:
        return settings.refusal
    return from_odds(log_odds(manifest.refusal) + manifest.refusal_slope * log_odds(confidence))

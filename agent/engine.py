"""One turn: route, generate from what passed, check against the sources, cite.

The customer always gets something true: a grounded reply, the curated text, or a person. Holds
no conversation; knows nothing of HTTP or of storage.
"""

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .artifacts import Manifest, verify
from .calibration import Calibration
from .classifier import TextClassifier
from .config import load_config
from .dialogue import Dialogue
from .draft import Draft
from .encoder import open_encoder
from .errors import ArtifactError
from .grounding import StreamGuard, sources_of, unsupported
from .guards import Asked, Guard, Seen, load_guards, look
from .index import Index
from .offers import OFFERED, offered
from .prefill import open_store
from .prompt import END_OF_TURN, REFUSAL, contract_hash, render
from .receipt import bit_level
from .reranker import CrossEncoder
from .router import Router
from .runtime import Generator, OnnxGenerator, Step
from .scoring import from_odds, log_odds
from .skillset import agreeing, open_skills
from .stages import BotConfig
from .support import load_support
from .texts import language_of, say
from .threads import called, iterated
from .types import (
    Author,
    Citation,
    Entry,
    Handoff,
    HandoffReason,
    Reply,
    Route,
    RouteKind,
    StreamEvent,
    Turn,
)

__all__ = ["MAX_QUESTION", "Agent"]

MAX_QUESTION = 2000
_GENERATING = frozenset({RouteKind.ANSWER})


def _never() -> bool:
    return False


@dataclass(slots=True)
class Agent:
    """A loaded bot: `reply` whole or `stream` as it is written; `areply`, `astream` for async."""

    router: Router
    generator: Generator | None
    config: BotConfig
    manifest: Manifest
    folder: Path
    bits: str = ""
    dialogue: Dialogue = field(default_factory=Dialogue)
    guards: tuple[Guard, ...] = ()
    user: str = ""

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        threads: int | None = None,
        device: str = "cpu",
        generate: bool = True,
    ) -> "Agent":
        """Load a bot folder and verify it; `generate=False` leaves the generator closed.

        Raises:
            ArtifactError: the folder is missing, changed, or made under another prompt contract.
            PluginError: a skill it uses does not load.
        """
        folder = Path(folder)
        manifest = Manifest.load(folder)
        verify(folder, manifest)
        if manifest.prompt_contract != contract_hash():
            raise ArtifactError(
                f"{folder} was built under another prompt contract than this version serves; "
                "build it anew"
            )
        config = load_config(folder / "bot.toml")
        cores = config.generation.threads if threads is None else threads
        cores = cores or available_cores()
        encoder = open_encoder(manifest.encoder, folder / "encoder", cores)
        index = Index.load(folder / "knowledge", encoder)
        if (folder / "classifier").is_dir():
            index.classifier = TextClassifier(folder / "classifier", cores)
        calibration = Calibration.load(folder / "knowledge" / "calibration.json")
        reranker = None
        if manifest.reranker:
            reranker = CrossEncoder(folder / "reranker", cores, manifest.reranker)
        written = generate and bool(manifest.writes)
        generator = None
        if written:
            store = open_store(folder, config.generation.stored_mb) if manifest.blocks else None
            told = config.generation
            generator = OnnxGenerator(
                folder / "generator",
                cores,
                device,
                store,
                seats=told.batch,
                bound=told.queue,
                graphs=told.cuda_graph,
            )
        return cls(
            Router(index, calibration, frozenset(manifest.writes), reranker),
            generator,
            config,
            manifest,
            folder,
            bit_level(folder / "generator"),
            Dialogue(agreeing(open_skills(config.skills, folder.resolve().parent), index.entries)),
            load_guards(config),
        )

    def asked_by(self, user: str) -> "Agent":
        """The same bot with the name of who asks: where many wait, users take turns."""
        return replace(self, user=user)

    def entry(self, entry_id: str) -> Entry:
        """The entry with an id.

        Raises:
            KeyError: there is none.
        """
        index = self.router.index
        return index.entries[index.place[entry_id]]

    def reply(
        self, question: str, history: Sequence[Turn] = (), *, stopped: Callable[[], bool] = _never
    ) -> Reply:
        """One reply; generation ends early once `stopped` says so."""
        reply = None
        for event in self.stream(question, history, stopped=stopped):
            reply = event.reply or reply
        assert reply is not None
        return reply

    async def areply(self, question: str, history: Sequence[Turn] = ()) -> Reply:
        """`reply` without blocking the event loop; cancelling the task stops the model."""
        return await called(lambda stopped: self.reply(question, history, stopped=stopped))

    def astream(
        self, question: str, history: Sequence[Turn] = ()
    ) -> AsyncGenerator[StreamEvent, None]:
        """`stream` without blocking the event loop; leaving the loop early stops the model."""
        return iterated(lambda stopped: self.stream(question, history, stopped=stopped))

    def route(self, question: str, history: Sequence[Turn] = ()) -> Reply:
        """The reply without generation: what would be answered from."""
        began = time.perf_counter()
        question = _bounded(question)
        language = language_of(question)
        seen = look(self.guards, self._asked(question, history))
        if seen.reply is not None:
            return offered(_timed(seen.reply, {}, began), history, language)
        route = self.router.route(seen.question, self.dialogue.before(seen.history))
        ms = {"route": _since(began), "total": _since(began)}
        plan = self.dialogue.plan(seen.question, seen.history, route, self.router)
        if plan is not None:
            return seen.marked(self.dialogue.reply(plan, route, ms, run=False))
        if route.kind in _GENERATING:
            return seen.marked(self._from_entries(route, Author.CURATED, ms))
        return offered(seen.marked(self._ready(route, seen.question, ms)), history, language)

    def stream(
        self, question: str, history: Sequence[Turn] = (), *, stopped: Callable[[], bool] = _never
    ) -> Iterator[StreamEvent]:
        """Released words as they are written, then the reply as it fits the conversation.

        Guards look at the question first.
        """
        began = time.perf_counter()
        question = _bounded(question)
        if not question:
            yield StreamEvent(reply=self._empty())
            return
        language = language_of(question)
        seen = look(self.guards, self._asked(question, history))
        for event in self._events(seen, stopped, began):
            if event.reply is None:
                yield event
                continue
            reply = offered(event.reply, history, language)
            if reply.author in {Author.MODEL, Author.FALLBACK}:
                told = self.manifest
                reply = replace(reply, model=told.adapter, base=told.base, bits=self.bits)
            yield StreamEvent(event.delta, reply)

    def _events(
        self, seen: Seen, stopped: Callable[[], bool], began: float
    ) -> Iterator[StreamEvent]:
        if seen.reply is not None:
            yield StreamEvent(reply=_timed(seen.reply, {}, began))
            return
        for event in self._answered(seen, stopped, began):
            yield event if event.reply is None else StreamEvent(reply=seen.marked(event.reply))

    def _asked(self, question: str, history: Sequence[Turn]) -> Asked:
        return Asked(question, language_of(question), tuple(history), self.router.index.encoder)

    def _answered(
        self, seen: Seen, stopped: Callable[[], bool], began: float
    ) -> Iterator[StreamEvent]:
        """What the bot has to say to a question that the guards let through."""
        question, history = seen.question, seen.history
        route = self.router.route(question, self.dialogue.before(history))
        ms = {"route": _since(began)}
        plan = self.dialogue.plan(question, history, route, self.router)
        if plan is not None:
            yield StreamEvent(reply=_timed(self.dialogue.reply(plan, route, ms), ms, began))
            return
        if route.kind not in _GENERATING or self.generator is None:
            reply = (
                self._from_entries(route, Author.CURATED, ms)
                if route.kind in _GENERATING
                else self._ready(route, question, ms)
            )
            yield StreamEvent(reply=_timed(reply, ms, began))
            return
        yield from self._written(self.generator, route, question, history, ms, began, stopped)

    def _written(
        self,
        generator: Generator,
        route: Route,
        question: str,
        history: Sequence[Turn],
        ms: dict[str, float],
        began: float,
        stopped: Callable[[], bool],
    ) -> Iterator[StreamEvent]:
        """The model writes; what it writes is released as far as the sources hold it.

        A message of several questions is answered one by one, each from its own entry.
        """
        entries = [self.entry(entry_id) for entry_id in route.passed]
        tasks: list[tuple[str, list[Entry], tuple[Turn, ...]]] = [
            (asked, [entry], ()) for asked, entry in zip(route.questions, entries, strict=False)
        ]
        tasks = tasks or [(question, entries, tuple(history))]
        limit = 2.0 if len(tasks) > 1 else self._refusal_threshold(route.confidence)
        deadline = time.monotonic() + self.config.generation.timeout
        drafts: list[Draft] = []
        for asked, shown, turns in tasks:
            blocks = [generator.encode(text) for text in render(shown, asked, turns).texts]
            guard = StreamGuard(sources_of(shown), asked, load_support())
            draft = Draft(guard, sum(map(len, blocks)))
            drafts.append(draft)
            opening = "\n\n" if len(drafts) > 1 else ""
            steps = self._steps(generator, blocks, shown, deadline, stopped, limit)
            for delta in draft.deltas(generator, steps):
                ms.setdefault("first_token", _since(began))
                yield StreamEvent(delta=opening + delta)
                opening = ""
            if not draft.good:
                break
        written = _since(began)
        raw = "\n\n".join(draft.raw.strip() for draft in drafts)
        reply = self._judged(route, question, entries, raw, drafts[-1], ms)
        checked = sum(draft.checked for draft in drafts)
        ms["generate"] = round(written - ms["route"] - checked, 2)
        ms["check"] = round(_since(began) - written + checked, 2)
        told = replace(
            reply,
            prompt_tokens=sum(draft.prompt_tokens for draft in drafts),
            tokens=sum(len(draft.tokens) for draft in drafts),
        )
        yield StreamEvent(reply=_timed(told, ms, began))

    def _steps(
        self,
        generator: Generator,
        blocks: Sequence[Sequence[int]],
        shown: Sequence[Entry],
        deadline: float,
        stopped: Callable[[], bool],
        refusal_threshold: float,
    ) -> Iterator[Step]:
        """The greedy steps after a prompt; all its blocks but the question may be kept."""
        return generator.generate(
            [token for block in blocks for token in block],
            blocks=[len(block) for block in blocks[:-1]],
            sources=[generator.encode(f"{entry.answer}{END_OF_TURN}") for entry in shown],
            max_tokens=self.config.generation.max_tokens,
            deadline=deadline,
            stopped=stopped,
            first_veto=(generator.encode(REFUSAL)[0], refusal_threshold),
            user=self.user,
        )

    def _refusal_threshold(self, confidence: float) -> float:
        """How likely the model's refusal must be to be taken, at a confidence of the router."""
        fixed = self.config.generation.refusal
        if fixed >= 0:
            return fixed
        return from_odds(
            log_odds(self.manifest.refusal) + self.manifest.refusal_slope * log_odds(confidence)
        )

    def _judged(
        self,
        route: Route,
        question: str,
        entries: Sequence[Entry],
        raw: str,
        last: Draft,
        ms: dict[str, float],
    ) -> Reply:
        if last.refused:
            refused = self._refused(route, question, ms)
            return replace(refused, raw_text=raw, author=Author.MODEL)
        if not last.good:
            curated = self._from_entries(route, Author.FALLBACK, ms)
            return replace(curated, raw_text=raw, unsupported=last.guard.failed)
        cited = _cited(raw, entries)
        return Reply(
            text=raw,
            raw_text=raw,
            route=route,
            author=Author.MODEL,
            ms=ms,
            citations=cited,
            model=self.manifest.adapter,
        )

    def _ready(self, route: Route, question: str, ms: dict[str, float]) -> Reply:
        """The reply of a route that needs no model."""
        if route.kind is RouteKind.SMALLTALK:
            return Reply(route.reply, route, Author.CURATED, ms=ms)
        if route.kind is RouteKind.VERBATIM:
            return self._from_entries(route, Author.CURATED, ms)
        language = language_of(question)
        if route.kind is RouteKind.CLARIFY:
            return self._choice(route, say("clarify", language), ms)
        return self._no_answer(route, language, ms)

    def _refused(self, route: Route, question: str, ms: dict[str, float]) -> Reply:
        """The model found no answer: a person, and the closest entries where they are close."""
        reason, language = HandoffReason.NOT_IN_ENTRIES, language_of(question)
        if route.confidence < self.router.calibration.of(question).offer:
            return self._no_answer(
                replace(route, kind=RouteKind.HANDOFF, reason=reason), language, ms
            )
        choice = self._choice(
            replace(route, kind=RouteKind.CLARIFY, reason=reason), say("closest", language), ms
        )
        return replace(choice, handoff=Handoff(reason))

    def _choice(self, route: Route, text: str, ms: dict[str, float]) -> Reply:
        """Up to three entries to choose from."""
        offered = [(match, self.entry(match.entry_id)) for match in route.matches[:OFFERED]]
        cited = tuple(
            Citation(entry.id, "", match.matched or entry.question)
            if entry.skill
            else _citation(entry)
            for match, entry in offered
        )
        return Reply(text, route, Author.CURATED, ms=ms, citations=cited)

    def _no_answer(self, route: Route, language: str, ms: dict[str, float]) -> Reply:
        reason = route.reason or HandoffReason.OUT_OF_SCOPE
        text = say("requested" if reason is HandoffReason.REQUESTED else "no_answer", language)
        return Reply(text, route, Author.CURATED, handoff=Handoff(reason), ms=ms)

    def _from_entries(self, route: Route, author: Author, ms: dict[str, float]) -> Reply:
        """The curated text: of the best entry, or of each part's when two things were asked."""
        entries = [self.entry(entry_id) for entry_id in route.passed[: route.parts]]
        return Reply(
            "\n\n".join(entry.answer for entry in entries),
            route,
            author,
            ms=ms,
            citations=tuple(_citation(entry) for entry in entries),
        )

    def _empty(self) -> Reply:
        route = Route(RouteKind.SMALLTALK, 0.0, 0.0, reply=say("empty", "en"))
        return Reply(route.reply, route, Author.CURATED, ms={"total": 0.0})


def available_cores() -> int:
    """The cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bounded(question: str) -> str:
    """The question without control characters, cut at MAX_QUESTION."""
    printable = "".join(c for c in question if c.isprintable() or c in "\n\t")
    return " ".join(printable.split())[:MAX_QUESTION]


def _cited(text: str, entries: Sequence[Entry]) -> tuple[Citation, ...]:
    """The fewest entries, best first, that hold all the text claims."""
    for count in range(1, len(entries) + 1):
        for start in range(len(entries) - count + 1):
            chosen = entries[start : start + count]
            if not unsupported(text, sources_of(chosen)):
                return tuple(_citation(entry) for entry in chosen)
    return tuple(_citation(entry) for entry in entries)


def _citation(entry: Entry) -> Citation:
    return Citation(entry.id, entry.answer, entry.question, entry.url)


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _timed(reply: Reply, ms: dict[str, float], began: float) -> Reply:
    return replace(reply, ms={**ms, "total": _since(began)})

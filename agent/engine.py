"""One turn: route, generate from what passed, check against the sources, cite.

The customer always gets something true: a grounded reply, the curated text, or a person. Holds
no conversation; knows nothing of HTTP or of storage.
"""

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from .answers import AnswerCache
from .artifacts import Manifest, verify
from .config import load_config
from .cores import available_cores
from .dialogue import Dialogue
from .errors import ArtifactError
from .guards import Asked, Guard, Seen, look
from .offers import offered
from .parts import open_parts
from .prompt import contract_hash
from .receipt import bit_level
from .replies import Curator
from .router import Router
from .runtime import Generator
from .skillset import agreeing, open_skills
from .stages import BotConfig
from .texts import language_of, say
from .threads import called, iterated
from .types import Author, Entry, Reply, Route, RouteKind, StreamEvent, Turn
from .writing import Writing

__all__ = ["MAX_QUESTION", "Agent"]

MAX_QUESTION = 2000
_GENERATING = frozenset({RouteKind.ANSWER})


def _never() -> bool:
    return False


@dataclass(slots=True)
class Agent:
    """A loaded bot: `reply` whole or `stream` as it is written; `areply`, `astream` for async.

    What the model writes is kept in `answers`, where a server gives it some.
    """

    router: Router
    generator: Generator | None
    config: BotConfig
    manifest: Manifest
    folder: Path
    bits: str = ""
    dialogue: Dialogue = field(default_factory=Dialogue)
    guards: tuple[Guard, ...] = ()
    answers: AnswerCache | None = None
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
        parts = open_parts(folder, manifest, config, cores, device, generate=generate)
        skills = open_skills(config.skills, folder.resolve().parent)
        return cls(
            parts.router,
            parts.generator,
            config,
            manifest,
            folder,
            bit_level(folder / "generator"),
            Dialogue(agreeing(skills, parts.router.index.entries)),
            parts.guards,
        )

    def warm(self) -> None:
        """Route a question and write a word, for nobody: what parts set up at their first use is
        there when a customer comes."""
        entry = next((one for one in self.router.index.entries if not one.skill), None)
        if entry is None:
            return
        self.route(entry.question)
        if self.generator is not None:
            asked = count()
            route = Route(RouteKind.ANSWER, 1.0, 0.0, passed=(entry.id,))
            writing = self._writing(
                self.generator, route, entry.question, (), lambda: next(asked) > 1
            )
            deque(replace(writing, answers=None).deltas(), 0)

    def asked_by(self, user: str) -> "Agent":
        """The same bot with the name of who asks: where many wait, users take turns."""
        return replace(self, user=user)

    def entry(self, entry_id: str) -> Entry:
        """The entry with an id.

        Raises:
            KeyError: there is none.
        """
        return self._curator.entry(entry_id)

    @property
    def _curator(self) -> Curator:
        return Curator(self.router)

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
            return seen.marked(self._curator.from_entries(route, Author.CURATED, ms))
        return offered(
            seen.marked(self._curator.ready(route, seen.question, ms)), history, language
        )

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
                self._curator.from_entries(route, Author.CURATED, ms)
                if route.kind in _GENERATING
                else self._curator.ready(route, question, ms)
            )
            yield StreamEvent(reply=_timed(reply, ms, began))
            return
        writing = self._writing(self.generator, route, question, history, stopped)
        yield from self._written(writing, ms, began)

    def _writing(
        self,
        generator: Generator,
        route: Route,
        question: str,
        history: Sequence[Turn],
        stopped: Callable[[], bool],
    ) -> Writing:
        return Writing(
            generator,
            self.config.generation,
            self.manifest,
            route,
            question,
            tuple(history),
            [self.entry(entry_id) for entry_id in route.passed],
            stopped,
            self.answers,
            self.user,
        )

    def _written(
        self, writing: Writing, ms: dict[str, float], began: float
    ) -> Iterator[StreamEvent]:
        """The model writes; what it writes is released as far as the sources hold it."""
        for delta in writing.deltas():
            ms.setdefault("first_token", _since(began))
            yield StreamEvent(delta=delta)
        written = _since(began)
        reply = writing.reply(self._curator, ms)
        ms["generate"] = round(written - ms["route"] - writing.checked, 2)
        ms["check"] = round(_since(began) - written + writing.checked, 2)
        yield StreamEvent(reply=_timed(reply, ms, began))

    def _empty(self) -> Reply:
        route = Route(RouteKind.SMALLTALK, 0.0, 0.0, reply=say("empty", "en"))
        return Reply(route.reply, route, Author.CURATED, ms={"total": 0.0})


def _bounded(question: str) -> str:
    """The question without control characters, cut at MAX_QUESTION."""
    printable = "".join(c for c in question if c.isprintable() or c in "\n\t")
    return " ".join(printable.split())[:MAX_QUESTION]


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _timed(reply: Reply, ms: dict[str, float], began: float) -> Reply:
    return replace(reply, ms={**ms, "total": _since(began)})

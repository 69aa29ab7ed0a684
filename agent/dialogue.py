"""Talks a skill through: asks for what is missing, has it confirmed, runs it.

Nothing is remembered: what a skill waits for, and what it was told, is read from the conversation
at every turn, so that it works the same behind the page, the API and after a restart.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from .errors import SkillError
from .router import Router
from .runner import Runner
from .slots import MAX_READ, arguments_in, is_no, is_stop, is_yes
from .types import (
    SKILL_ID,
    Author,
    Handoff,
    HandoffReason,
    Match,
    Reply,
    Route,
    RouteKind,
    SkillState,
    SkillUse,
    Turn,
)
from .wordings import Prompt, Wording, phrase

__all__ = ["Dialogue", "Plan"]

ATTEMPTS = 2
_MOST_TURNS = 40
_MAX_TEXT = 3000
_CONFIRM = ("",)
_ASKS = re.compile(
    r"[?？]|^(what|how|when|where|which|who|why|can|could|do|does|did|is|are|will|would|should|"
    r"may)\b|吗|呢|怎么|什么|多少|哪|几时|为什么|能不能|是否",
    re.IGNORECASE,
)
_ZH = re.compile(r"[一-鿿]")

Exchange = tuple[Prompt | None, str]
"""What the skill asked and what the customer said to it; None: what began it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done in this turn: say `text`, or run the skill with `arguments` (READY).

    `again` counts how often the skill found nothing in this conversation.
    """

    name: str
    runner: Runner
    state: SkillState
    language: str
    text: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    again: int = 0


@dataclass(slots=True)
class _Heard:
    """What the exchanges told so far.

    `failed` counts answers that told nothing, by what was asked; `again` how often all was void.
    `new` and `agreed` are of the last message: the arguments it told, and whether it said yes.
    """

    values: dict[str, object] = field(default_factory=dict)
    failed: Counter[tuple[str, ...]] = field(default_factory=Counter)
    confirmed: bool = False
    again: int = 0
    new: frozenset[str] = frozenset()
    agreed: bool = False

    @property
    def useful(self) -> bool:
        """Whether the last message told something."""
        return bool(self.new) or self.agreed


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The skills of a bot in conversation; `now` is aware of its zone."""

    runners: Mapping[str, Runner] = field(default_factory=dict)
    now: Callable[[], datetime] = _utc_now

    def before(self, history: Sequence[Turn]) -> Sequence[Turn]:
        """What of a conversation a question may lean on: nothing while a skill waits, for then it
        is an answer to the skill, or a new question."""
        waits = any(_exchanges(Wording(runner), history) for runner in self.runners.values())
        return () if waits else history

    def plan(
        self,
        question: str,
        history: Sequence[Turn],
        route: Route,
        router: Router,
    ) -> Plan | None:
        """What a skill does with a question that has this route; None where it is none's."""
        name, exchanges = self._pending(history, router)
        if name:
            prompt = exchanges[-1][0]
            last = (prompt, question)
            heard = self._heard(name, [*exchanges[:-1], last])
            if _stops(prompt, question, heard, self.runners[name]):
                return self._plan(name, SkillState.STOPPED, last, heard, "stopped")
            sure = route.confidence >= router.calibration.of(question).offer
            if not _leaves(name, question, route, heard, sure=sure):
                return self._next(name, last, heard)
        begun = route.matches[0].skill if route.kind is RouteKind.SKILL else ""
        if begun not in self.runners:
            return None
        first: Exchange = (None, question)
        return self._next(begun, first, self._heard(begun, [first]))

    def reply(self, plan: Plan, route: Route, ms: dict[str, float], *, run: bool = True) -> Reply:
        """Carry a plan out; without `run` a skill that is ready is not called."""
        if plan.state is not SkillState.READY or not run:
            return _reply(plan, route, ms)
        began = time.perf_counter()
        try:
            result = plan.runner.run(plan.arguments)
        except SkillError:
            return _reply(_failed(plan, phrase("failed", plan.language)), route, ms)
        finally:
            ms["skill"] = round((time.perf_counter() - began) * 1000, 2)
        text = result.texts.get(plan.language, result.text)
        groups = Wording(plan.runner).groups
        if not result.again or not groups:
            done = replace(plan, state=SkillState.RAN, text=text)
            told = _reply(done, route, ms)
            assert told.skill is not None
            return replace(told, skill=replace(told.skill, data=result.data))
        text = text[:_MAX_TEXT]
        if plan.again + 1 >= ATTEMPTS:
            text = f"{text} {phrase('person', plan.language)}"
            return _reply(_failed(plan, text), route, ms)
        asked = Wording(plan.runner).ask(groups[0], plan.language)
        return _reply(replace(plan, state=SkillState.ASKED, text=f"{text}\n{asked}"), route, ms)

    def _pending(self, history: Sequence[Turn], router: Router) -> tuple[str, list[Exchange]]:
        """The skill that waits for an answer and what was said to it; the last exchange is open.

        Where two skills ask in the same words, the one is meant that the first question called.
        """
        found = {
            name: exchanges
            for name, runner in self.runners.items()
            if (exchanges := _exchanges(Wording(runner), history))
        }
        if not found:
            return "", []
        name = next(iter(found))
        if len(found) > 1:
            route = router.route(found[name][0][1])
            called = route.matches[0].skill if route.matches else ""
            name = called if called in found else name
        return name, found[name]

    def _heard(self, name: str, exchanges: Sequence[Exchange]) -> _Heard:
        """What all the exchanges tell together; a later value replaces an earlier one."""
        runner, heard = self.runners[name], _Heard()
        private = {p.name for p in runner.parameters if p.private}
        for prompt, said in exchanges:
            if prompt is not None and prompt.fresh:
                heard = _Heard(again=heard.again + 1)
            asked = prompt.asked if prompt else ()
            found = arguments_in(said, runner.parameters, asked, self.now())
            heard.agreed = (
                prompt is not None
                and not prompt.asked
                and is_yes(said)
                and Wording(runner).shows(prompt, heard.values)
            )
            changed = any(heard.values.get(k) != v for k, v in found.items() if k not in private)
            heard.confirmed = heard.agreed or (heard.confirmed and not changed)
            heard.new = frozenset(
                k for k, v in found.items() if k in asked or heard.values.get(k) != v
            )
            heard.values.update(found)
            if prompt is not None and not heard.useful:
                heard.failed[asked or _CONFIRM] += 1
        return heard

    def _next(self, name: str, last: Exchange, heard: _Heard) -> Plan:
        """Ask for what is missing, then whether to go on, then for what is private; then run."""
        runner = self.runners[name]
        if runner.paused:
            return self._plan(name, SkillState.FAILED, last, heard, "failed")
        steps: list[tuple[str, ...]] = list(Wording(runner).groups)
        hidden = {p.name for p in runner.parameters if p.private}
        if runner.confirms:
            place = len(steps) - bool(steps and set(steps[-1]) <= hidden)
            steps.insert(place, _CONFIRM)
        for step in steps:
            done = heard.confirmed if step == _CONFIRM else set(step) <= set(heard.values)
            if not done:
                return self._asking(name, step, last, heard)
        return self._plan(name, SkillState.READY, last, heard)

    def _asking(self, name: str, step: tuple[str, ...], last: Exchange, heard: _Heard) -> Plan:
        if heard.failed[step] >= ATTEMPTS:
            return self._plan(name, SkillState.FAILED, last, heard, "unclear")
        plan = self._plan(name, SkillState.ASKED, last, heard)
        wording, unread = Wording(plan.runner), heard.failed[step] > 0 and not heard.useful
        if step == _CONFIRM:
            text = wording.confirm(heard.values, plan.language, unread=unread)
            return replace(plan, state=SkillState.CONFIRMING, text=text)
        return replace(plan, text=wording.ask(step, plan.language, unread=unread))

    def _plan(
        self, name: str, state: SkillState, last: Exchange, heard: _Heard, say: str = ""
    ) -> Plan:
        runner, language = self.runners[name], _language(*last)
        told = {p.name: p.schema["default"] for p in runner.parameters if "default" in p.schema}
        told |= heard.values
        arguments = {p.name: told[p.name] for p in runner.parameters if p.name in told}
        text = phrase(say, language) if say else ""
        return Plan(name, runner, state, language, text, arguments, heard.again)


def _exchanges(wording: Wording, history: Sequence[Turn]) -> list[Exchange]:
    """The exchanges with a skill that end a conversation; empty where it waits for nothing.

    The last holds the prompt that is open, without an answer yet.
    """
    turns = list(history[-_MOST_TURNS:])
    prompts: list[Prompt] = []
    said: list[str] = []
    while turns:
        last = turns.pop()
        prompt = wording.read(last.content) if last.role == "assistant" else None
        if prompt is None:
            break
        lines: list[str] = []
        while turns and turns[-1].role == "user":
            lines.insert(0, turns.pop().content[:MAX_READ])
        prompts.insert(0, prompt)
        said.insert(0, "\n".join(lines))
    return list(zip([None, *prompts], [*said, ""], strict=True)) if prompts else []


def _stops(prompt: Prompt | None, question: str, heard: _Heard, runner: Runner) -> bool:
    """Whether the customer wants no more of it; a choice that is called so is an answer."""
    if prompt is not None and not prompt.asked and is_no(question):
        return True
    firm = {p.name for p in runner.parameters if "enum" in p.schema}
    return is_stop(question) and not firm & heard.new


def _leaves(name: str, question: str, route: Route, heard: _Heard, *, sure: bool) -> bool:
    """Whether a message is about something else: a person, or a question that is surely another.

    What tells a value is an answer, unless it asks something as well. `sure` is the router.
    """
    if route.kind is RouteKind.HANDOFF:
        return route.reason is HandoffReason.REQUESTED
    other = route.kind in {RouteKind.ANSWER, RouteKind.VERBATIM} or (
        route.kind is RouteKind.SKILL and route.matches[0].skill != name
    )
    return other and sure and (not heard.useful or bool(_ASKS.search(question)))


def _language(prompt: Prompt | None, said: str) -> str:
    """The language to go on in: that of the prompt, unless the customer writes a sentence in the
    other one; a number or a postcode tells no language."""
    if _ZH.search(said):
        return "zh"
    if prompt is None or len(re.findall(r"[A-Za-z]{2,}", said)) > 2:
        return "en"
    return prompt.language


def _failed(plan: Plan, text: str) -> Plan:
    return replace(plan, state=SkillState.FAILED, text=text)


def _reply(plan: Plan, route: Route, ms: dict[str, float]) -> Reply:
    """A plan as a reply; one that failed offers a person."""
    use = SkillUse(plan.name, plan.state, tuple(plan.arguments))
    if route.kind is not RouteKind.SKILL or route.matches[0].skill != plan.name:
        match = Match(f"{SKILL_ID}{plan.name}", 1.0)
        route = Route(RouteKind.SKILL, 1.0, route.threshold, (match,))
    if plan.state is not SkillState.FAILED:
        return Reply(plan.text, route, Author.SKILL, ms=ms, skill=use)
    reason = HandoffReason.SKILL_FAILED
    route = replace(route, kind=RouteKind.HANDOFF, reason=reason)
    return Reply(plan.text, route, Author.CURATED, handoff=Handoff(reason), ms=ms, skill=use)

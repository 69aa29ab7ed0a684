"""Guards look at a message before it is routed: each is a plugin of `featherdesk.guards`.

A guard may say nothing, be named in the receipt, cut the question, or end the turn with a text of
its own. One that fails is passed over and named as failed; it never takes the turn down. Knows
nothing of what the single guards look for.
"""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from .encoder import Encoder
from .errors import ConfigError, PluginError
from .plugins import load, plugins
from .stages import BotConfig
from .types import Author, Handoff, HandoffReason, Reply, Route, RouteKind, Turn

__all__ = ["Asked", "Finding", "Guard", "Seen", "load_guards", "look"]

GROUP = "featherdesk.guards"
_NO_ANSWER = frozenset({RouteKind.HANDOFF, RouteKind.CLARIFY})
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a guard looks at: the message, the language it is in, the turns before it.

    `encoder` is the bot's, for guards that go by meaning.
    """

    question: str
    language: str
    history: tuple[Turn, ...] = ()
    encoder: Encoder | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guard found.

    A `reply` ends the turn with that text, with the offer of a person where there is a `reason`;
    `unless_answered` keeps it for the case that the bot has no answer of its own. `question` is
    what is left to ask where a part of the message must not reach the model, `history` the turns
    that are left.
    """

    guard: str
    kind: str
    reply: str = ""
    reason: HandoffReason | None = None
    unless_answered: bool = False
    question: str | None = None
    history: tuple[Turn, ...] | None = None


@runtime_checkable
class Guard(Protocol):
    """One guard; those of a lower rank speak first.

    An entry point of the group names something that takes the bot's configuration and gives one.
    """

    @property
    def name(self) -> str:
        """The name it is registered under."""
        ...

    @property
    def rank(self) -> int:
        """Its place: 0 for what cannot wait, 100 for what only takes note."""
        ...

    def inspect(self, asked: Asked) -> Finding | None:
        """What there is to say about a message; None where there is nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What all guards said: what is left to ask, who fired, and what is replied instead."""

    question: str
    history: tuple[Turn, ...] = ()
    fired: tuple[str, ...] = ()
    ends: Finding | None = None
    otherwise: Finding | None = None

    @property
    def reply(self) -> Reply | None:
        """The reply that ends the turn, if a guard has one."""
        return None if self.ends is None else self._told(self.ends, {})

    def marked(self, reply: Reply) -> Reply:
        """A reply that names the guards that fired; theirs instead, where it is no answer."""
        if self.otherwise is not None and reply.route.kind in _NO_ANSWER:
            return self._told(self.otherwise, reply.ms)
        return replace(reply, guards=self.fired)

    def _told(self, finding: Finding, ms: Mapping[str, float]) -> Reply:
        """A guard's own words, with the offer of a person where it has a reason for one."""
        reason = finding.reason
        kind = RouteKind.SMALLTALK if reason is None else RouteKind.HANDOFF
        return Reply(
            finding.reply,
            Route(kind, 1.0, 0.0, reason=reason, reply=finding.reply),
            Author.CURATED,
            handoff=None if reason is None else Handoff(reason),
            guards=self.fired,
            ms=ms,
        )


def load_guards(config: BotConfig) -> tuple[Guard, ...]:
    """The registered guards that `guards.off` does not name, in the order of their rank.

    Raises:
        ConfigError: `guards.off` names one that is not registered.
        PluginError: one does not load, or is no guard.
    """
    names = [plugin.name for plugin in plugins() if plugin.group == GROUP]
    for name in config.guards.off:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"guards.off: there is no guard {name!r}{hint}")
    made = [_made(name, config) for name in names if name not in config.guards.off]
    return tuple(sorted(made, key=lambda guard: (guard.rank, guard.name)))


def _made(name: str, config: BotConfig) -> Guard:
    make = load(GROUP, name)
    if not callable(make):
        raise PluginError(f"guard {name!r} cannot be called with the bot's configuration")
    guard = make(config)
    if not isinstance(guard, Guard):
        raise PluginError(f"guard {name!r} has no name, rank or inspect")
    return guard


def look(guards: Sequence[Guard], asked: Asked) -> Seen:
    """Let every guard look at a message; the first that replies decides the reply."""
    fired: list[str] = []
    question, history = asked.question, asked.history
    ends = otherwise = None
    for guard in guards:
        try:
            finding = guard.inspect(asked)
            if finding is None:
                continue
            if not isinstance(finding, Finding):
                raise TypeError("not a finding")
            fired.append(guard.name)
            if finding.question is not None:
                question = finding.question
            if finding.history is not None:
                history = finding.history
            if finding.reply and finding.unless_answered:
                otherwise = otherwise or finding
            elif finding.reply:
                ends = ends or finding
        except Exception as error:  # noqa: BLE001 - a plugin's fault must not cost the answer
            log.warning("guard %s failed: %s", guard.name, type(error).__name__)
            fired.append(f"{guard.name} (failed)")
    return Seen(question, history, tuple(fired), ends, otherwise)

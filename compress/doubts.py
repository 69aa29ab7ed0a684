"""Asks a bot's model, and its parent's, what a threshold is fitted on: how much each doubts.

Asked are the bot's own wordings, each held out from its entry; some with their entry taken away,
and near misses of topics that no adapter saw, which nothing answers; and rows of a dev file. Knows
nothing of thresholds.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from ..agent.engine import Agent
from ..agent.errors import GenerationError
from ..agent.evaluate import Case, facts_present, load_cases
from ..agent.grounding import sources_of, unsupported
from ..agent.index import Index
from ..agent.out_of_scope import OutOfScope
from ..agent.progress import track
from ..agent.prompt import REFUSAL, leaks, render
from ..agent.router import Router
from ..agent.runtime import Generator
from ..agent.scoring import log_odds
from ..agent.types import Entry, Match, RouteKind, Turn
from .augment import noisy
from .corpora import load_topics, split_topics, told_entry
from .refusal import Asked

__all__ = ["Probed", "ask_dev", "ask_own"]

_PATIENCE = 170.0
"""Seconds for a reply: that the machine is busy tells nothing of the bot."""

_OWN, _AWAY, _NEAR = 160, 80, 80


@dataclass(frozen=True, slots=True)
class Probed:
    """A question as the model was asked it.

    `group` is `own`, `away` (its entry is taken away) or `near`; `right` tells whether what the
    model wrote would have been a right answer; `parent` are the log-odds of its parent's refusal.
    """

    asked: Asked
    group: str
    right: bool
    parent: float = 0.0


def ask_own(
    agent: Agent, generator: Generator, seed: int = 4, parent: Generator | None = None
) -> list[Probed]:
    """Ask a bot its own wordings, and what it cannot answer."""
    rng = random.Random(seed)
    entries = [e for e in agent.router.index.entries if _written(e, agent)]
    held = {entry.id: rng.choice(entry.variants) for entry in entries if entry.variants}
    chosen = rng.sample(sorted(held), k=min(len(held), _OWN))
    router = _rebuilt(
        agent,
        [
            replace(e, variants=tuple(v for v in e.variants if v != held.get(e.id)))
            for e in agent.router.index.entries
        ],
    )
    away = set(rng.sample(sorted(held), k=len(held) // 4))
    fewer = _rebuilt(agent, [e for e in agent.router.index.entries if e.id not in away])
    topics = split_topics(load_topics())[1]
    near = [text for topic in topics for text in told_entry(topic, rng)[2]]
    tasks = [(router, held[name], name, "own") for name in chosen]
    tasks += [(fewer, held[name], "", "away") for name in sorted(away)[:_AWAY]]
    tasks += [(router, text, "", "near") for text in rng.sample(near, k=min(len(near), _NEAR))]
    found = []
    for place, text, wanted, group in track(tasks, "asking"):
        question = noisy(text, rng)
        matches = place.nearest(question)
        if matches:
            case = Case("", question, (), (wanted,) if wanted else (), (), group, not wanted)
            found.append(_probed(agent, generator, case, matches, group, parent=parent))
    return found


def ask_dev(
    agent: Agent, generator: Generator, dev: Path, parent: Generator | None = None
) -> list[Probed]:
    """Ask a bot the rows of a dev file that its router lets the model answer.

    Raises:
        InputError: the file is wrong.
    """
    found = []
    for case in track(load_cases(dev, agent.router.index.place), "asking"):
        history = agent.dialogue.before(case.history)
        route = agent.router.route(case.question, history)
        if route.kind is not RouteKind.ANSWER or route.parts > 1:
            continue
        by_id = {match.entry_id: match for match in route.matches}
        matches = [by_id[name] for name in route.passed if name in by_id]
        group = "own" if not case.out_of_scope else "near"
        if matches:
            found.append(_probed(agent, generator, case, matches, group, history, parent))
    return found


def _written(entry: Entry, agent: Agent) -> bool:
    """Whether the model writes answers from an entry."""
    return not (
        entry.skill
        or entry.verbatim
        or entry.expired(date.today())
        or entry.language not in agent.manifest.writes
    )


def _rebuilt(agent: Agent, entries: Sequence[Entry]) -> Router:
    """The router over other entries, with the vectors and thresholds that there are."""
    old = agent.router
    encoder = old.index.encoder
    strange = None
    if old.index.head is not None:
        strange = OutOfScope.embedded(encoder, {entry.language for entry in entries})
    index = Index.build(entries, encoder, old.index.known_vectors(), strange)
    return replace(old, index=index)


def _probed(
    agent: Agent,
    generator: Generator,
    case: Case,
    matches: Sequence[Match],
    group: str,
    history: Sequence[Turn] = (),
    parent: Generator | None = None,
) -> Probed:
    """Ask the model about what was found."""
    entries = [agent.entry(match.entry_id) for match in matches]
    texts = render(entries, case.question, history).texts
    first = matches[0].entry_id in case.entry_ids
    right = False
    if first and not case.out_of_scope:
        raw = _written_text(generator, texts, agent.config.generation.max_tokens)
        right = bool(raw) and not leaks(raw) and facts_present(raw, case.facts)
        right = right and not unsupported(raw, sources_of(entries), case.question)
    doubt = _doubt(generator, texts)
    asked = Asked(log_odds(matches[0].score), doubt, first, not case.out_of_scope)
    return Probed(asked, group, right, _doubt(parent, texts) if parent else 0.0)


def _doubt(generator: Generator, texts: Sequence[str]) -> float:
    """The log-odds of a refusal."""
    blocks = [generator.encode(text) for text in texts]
    token = generator.encode(REFUSAL)[0]
    ids, lengths = [i for block in blocks for i in block], [len(block) for block in blocks[:-1]]
    return log_odds(float(generator.first(ids, [token], lengths)[0]))


def _written_text(generator: Generator, texts: Sequence[str], most: int) -> str:
    """What the model writes when its refusal is never taken; empty where it takes too long."""
    blocks, refusal = [generator.encode(text) for text in texts], generator.encode(REFUSAL)[0]
    try:
        steps = generator.generate(
            [token for block in blocks for token in block],
            blocks=[len(block) for block in blocks[:-1]],
            max_tokens=most,
            deadline=time.monotonic() + _PATIENCE,
            stopped=lambda: False,
            first_veto=(refusal, 2.0),
        )
        return generator.decode([step.token for step in steps]).strip()
    except GenerationError:
        return ""

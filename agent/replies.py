"""Replies in the curator's words: an entry's text, a choice of entries, or the offer of a person.

Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .grounding import sources_of, unsupported
from .offers import OFFERED
from .router import Router
from .texts import language_of, say
from .types import Author, Citation, Entry, Handoff, HandoffReason, Reply, Route, RouteKind

__all__ = ["Curator", "cited"]


@dataclass(frozen=True, slots=True)
class Curator:
    """Makes replies from the entries of a router; `ms` are the milliseconds so far, by stage."""

    router: Router

    def entry(self, entry_id: str) -> Entry:
        """The entry with an id.

        Raises:
            KeyError: there is none.
        """
        index = self.router.index
        return index.entries[index.place[entry_id]]

    def ready(self, route: Route, question: str, ms: dict[str, float]) -> Reply:
        """The reply of a route that needs no model."""
        if route.kind is RouteKind.SMALLTALK:
            return Reply(route.reply, route, Author.CURATED, ms=ms)
        if route.kind is RouteKind.VERBATIM:
            return self.from_entries(route, Author.CURATED, ms)
        language = language_of(question)
        if route.kind is RouteKind.CLARIFY:
            return self._choice(route, say("clarify", language), ms)
        return self._no_answer(route, language, ms)

    def refused(self, route: Route, question: str, ms: dict[str, float]) -> Reply:
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

    def from_entries(self, route: Route, author: Author, ms: dict[str, float]) -> Reply:
        """The curated text: of the best entry, or of each part's when two things were asked."""
        entries = [self.entry(entry_id) for entry_id in route.passed[: route.parts]]
        return Reply(
            "\n\n".join(entry.answer for entry in entries),
            route,
            author,
            ms=ms,
            citations=tuple(_citation(entry) for entry in entries),
        )

    def _choice(self, route: Route, text: str, ms: dict[str, float]) -> Reply:
        """Up to three entries to choose from."""
        offered = [(match, self.entry(match.entry_id)) for match in route.matches[:OFFERED]]
        found = tuple(
            Citation(entry.id, "", match.matched or entry.question)
            if entry.skill
            else _citation(entry)
            for match, entry in offered
        )
        return Reply(text, route, Author.CURATED, ms=ms, citations=found)

    def _no_answer(self, route: Route, language: str, ms: dict[str, float]) -> Reply:
        reason = route.reason or HandoffReason.OUT_OF_SCOPE
        text = say("requested" if reason is HandoffReason.REQUESTED else "no_answer", language)
        return Reply(text, route, Author.CURATED, handoff=Handoff(reason), ms=ms)


def cited(text: str, entries: Sequence[Entry]) -> tuple[Citation, ...]:
    """The fewest entries, best first, that hold all the text claims."""
    for count in range(1, len(entries) + 1):
        for start in range(len(entries) - count + 1):
            chosen = entries[start : start + count]
            if not unsupported(text, sources_of(chosen)):
                return tuple(_citation(entry) for entry in chosen)
    return tuple(_citation(entry) for entry in entries)


def _citation(entry: Entry) -> Citation:
    return Citation(entry.id, entry.answer, entry.question, entry.url)

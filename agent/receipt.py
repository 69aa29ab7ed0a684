"""The receipt of a reply: why it came out as it did, as one value that is stored, told and shown.

Made from the reply alone. Holds nothing of the customer's: what the model wrote is left out, and
what was rejected of it is masked. Knows nothing of pages.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from .grounding import claims
from .privacy import masked
from .texts import REASONS
from .types import Citation, Reply, RouteKind, SkillUse

__all__ = ["Cited", "Considered", "Receipt", "bit_level", "model_name", "quotes"]

_MOST = 5
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")
_COMMON = frozenset({"the", "and", "you", "your", "our", "are", "for", "with", "this", "that"})
_ANSWERS = frozenset({RouteKind.ANSWER, RouteKind.VERBATIM, RouteKind.SKILL})
_AUTHORS = {
    "model": "the model",
    "curated": "the FAQ, word for word",
    "fallback": "the FAQ, word for word, as the model's text was rejected",
    "skill": "a skill",
}
_STEPS = {
    "route": "search",
    "first_token": "first word",
    "generate": "writing",
    "check": "checking",
    "total": "in all",
}


@dataclass(frozen=True, slots=True)
class Considered:
    """An entry that was looked at: its score (0..1), whether it passed, its closest wording."""

    entry_id: str
    score: float
    passed: bool
    matched: str = ""


@dataclass(frozen=True, slots=True)
class Cited:
    """An entry the reply stands on, with the words of it that the reply uses."""

    entry_id: str
    question: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a reply came about; `ms` holds milliseconds by step, `reason` is a hand-off's.

    `base`, `adapter` and `bits` name the model where one wrote, also when its text was rejected;
    `cached` says that it wrote this to an earlier customer.
    """

    route: str
    score: float
    threshold: float
    author: str
    reason: str = ""
    considered: tuple[Considered, ...] = ()
    cited: tuple[Cited, ...] = ()
    guards: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    base: str = ""
    adapter: str = ""
    bits: str = ""
    skill: str = ""
    cached: bool = False
    ms: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, reply: Reply) -> "Receipt":
        """The receipt of a reply."""
        route = reply.route
        return cls(
            route=route.kind.value,
            score=round(route.confidence, 4),
            threshold=round(route.threshold, 4),
            author=reply.author.value,
            reason=reply.handoff.reason.value if reply.handoff else "",
            considered=tuple(
                Considered(m.entry_id, round(m.score, 4), m.entry_id in route.passed, m.matched)
                for m in route.matches[:_MOST]
            ),
            cited=tuple(
                Cited(c.entry_id, c.question, quotes(reply.text, c))
                for c in reply.citations
                if route.kind in _ANSWERS
            ),
            guards=reply.guards,
            rejected=tuple(masked(claim) for claim in reply.unsupported),
            base=reply.base,
            adapter=reply.model if reply.base else "",
            bits=reply.bits,
            skill=_skill(reply.skill),
            cached=reply.cached,
            ms={name: round(ms, 1) for name, ms in reply.ms.items()},
        )

    @property
    def model(self) -> str:
        """The model in words: `smollm2-135m-instruct + sample, int4`; empty where none wrote."""
        return model_name(self.base, self.adapter, self.bits)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> "Receipt | None":
        """What `to_json` wrote, as text; None for anything else, such as an older version's."""
        try:
            data = json.loads(text)
            return cls(
                **{
                    **data,
                    "considered": tuple(Considered(**one) for one in data["considered"]),
                    "cited": tuple(
                        Cited(one["entry_id"], one["question"], tuple(one["words"]))
                        for one in data["cited"]
                    ),
                    "guards": tuple(data["guards"]),
                    "rejected": tuple(data["rejected"]),
                }
            )
        except (ValueError, TypeError, KeyError):
            return None

    def to_text(self) -> str:
        """In words, line by line."""
        lines = [
            f"Route: {self.route}. Score {self.score:.2f} against a threshold of "
            f"{self.threshold:.2f}."
        ]
        if self.reason:
            lines.append(f"Hand-off: {self.reason} ({REASONS.get(self.reason, self.reason)}).")
        lines.append("Entries considered:" if self.considered else "Entries considered: none.")
        for one in self.considered:
            passed = "passed" if one.passed else "not passed"
            lines.append(f"  {one.score:.2f}  {one.entry_id} ({passed}; nearest: {one.matched!r})")
        lines.append("Sources:" if self.cited else "Sources: none.")
        for cited in self.cited:
            lines.append(f"  {cited.entry_id}")
            lines.extend(f"    “{words}”" for words in cited.words)
        written = f" ({self.model})" if self.model else ""
        before = ", to an earlier customer" if self.cached else ""
        lines.append(f"Written by: {_AUTHORS.get(self.author, self.author)}{written}{before}.")
        if self.skill:
            lines.append(f"Skill: {self.skill}.")
        if self.rejected:
            lines.append(f"Rejected for: {'; '.join(self.rejected)}.")
        lines.append(f"Guards that fired: {', '.join(self.guards) or 'none'}.")
        steps = (f"{_STEPS.get(name, name)} {ms:.0f} ms" for name, ms in self.ms.items())
        lines.append(f"Time: {', '.join(steps)}.")
        return "\n".join(lines)


def _skill(use: SkillUse | None) -> str:
    """A skill's part: its name, how far it got, and the names of what it was told."""
    if use is None:
        return ""
    return f"{use.name} ({use.state.value}); was told: {', '.join(use.arguments) or 'nothing yet'}"


def model_name(base: str, adapter: str, bits: str) -> str:
    """A model in words; empty where there is no base."""
    named = " + ".join(part for part in (base, adapter) if part)
    return ", ".join(part for part in (named, bits) if part) if base else ""


def quotes(reply: str, citation: Citation) -> tuple[str, ...]:
    """The fewest sentences of a cited entry that hold what the reply says, in their order.

    Each sentence of the reply is given the source sentence it shares most with: facts (numbers,
    prices, names, links) count first, then words.
    """
    pool = _sentences(citation.quote)
    held = [set(claims(sentence)) for sentence in pool]
    chosen: set[int] = set()
    for sentence in _sentences(reply):
        facts, words = set(claims(sentence)), _words(sentence)
        first = _best(
            [(len(facts & h), len(words & _words(s))) for h, s in zip(held, pool, strict=True)]
        )
        while first is not None:
            chosen.add(first)
            facts -= held[first]
            first = _best([(len(facts & h), 0) for h in held])
    return tuple(pool[place] for place in sorted(chosen))


def _best(shared: Sequence[tuple[int, int]]) -> int | None:
    """The first place of the most facts, then words, shared; None where nothing is."""
    place = max(range(len(shared)), key=shared.__getitem__, default=None)
    return place if place is not None and any(shared[place]) else None


def bit_level(generator: Path) -> str:
    """How the weights of a generator are held, read from its graph: `int4`, `int8` or `float`."""
    path = generator / "model.onnx"
    try:
        return _bits(path, path.stat().st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=8)
def _bits(path: Path, stamp: int) -> str:
    """The `bits` of the matrix products (ONNX attribute: name, then its whole number)."""
    del stamp
    found = re.findall(rb"\n\x04bits\x18([\x02\x04\x08])", path.read_bytes())
    levels = sorted({level[0] for level in found})
    return "+".join(f"int{level}" for level in levels) or "float"


def _sentences(text: str) -> list[str]:
    return [piece.strip() for piece in _SENTENCE.split(text) if piece and piece.strip()]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9£$€'-]{3,}|[一-鿿]", text.lower())) - _COMMON

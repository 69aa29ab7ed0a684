"""The figures a report tells of a generator: name, unit, and which way is better.

Knows nothing of how they are drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .measured import Measured, Spread

__all__ = ["FIGURES", "Figure", "shown"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `read` gives its value (None: not measured), `spread` its extremes."""

    key: str
    name: str
    unit: str
    better: str
    digits: int
    read: Callable[[Measured], float | None]
    spread: Callable[[Measured], Spread | None] = lambda _: None

    @property
    def share(self) -> bool:
        """Whether it is a share of 0..1, compared in points and not as a ratio."""
        return self.unit == "%"


def _of(
    key: str, name: str, unit: str, better: str, digits: int, read: Callable[[Measured], Spread]
) -> Figure:
    return Figure(key, name, unit, better, digits, lambda m: read(m).median, read)


def _of_crowd(key: str, name: str, unit: str, better: str, digits: int, attribute: str) -> Figure:
    def read(measured: Measured) -> Spread | None:
        return getattr(measured.crowd, attribute) if measured.crowd else None

    def median(measured: Measured) -> float | None:
        told = read(measured)
        return told.median if told else None

    return Figure(key, name, unit, better, digits, median, read)


FIGURES = (
    Figure("size", "Size on disk", "MB", "less", 1, lambda m: m.size_mb),
    Figure("resident", "Resident memory", "MB", "less", 0, lambda m: m.resident_mb),
    Figure("peak", "Peak memory", "MB", "less", 0, lambda m: m.peak_mb),
    _of("first", "Time to first token", "ms", "less", 0, lambda m: m.first_token_ms),
    _of("prefill", "Prefill", "tokens/s", "more", 0, lambda m: m.prefill),
    _of("decode", "Decode", "tokens/s", "more", 0, lambda m: m.decode),
    _of("characters", "Whole answers", "characters/s", "more", 0, lambda m: m.characters),
    _of_crowd("first8", "First token, {users} users", "ms", "less", 0, "first_token_ms"),
    _of_crowd("prefill8", "Prefill, {users} users", "tokens/s", "more", 0, "prefill"),
    _of_crowd("decode8", "Decode, {users} users", "tokens/s", "more", 0, "decode"),
    _of_crowd("characters8", "Answers, {users} users", "characters/s", "more", 0, "characters"),
    Figure("correct", "Correct", "%", "more", 1, lambda m: m.quality.correct),
    Figure("refused", "Refused where it should", "%", "more", 1, lambda m: m.quality.refused_right),
    Figure(
        "wrongly", "Refused where it should not", "%", "less", 1, lambda m: m.quality.refused_wrong
    ),
    Figure("bleu", "BLEU", "", "more", 1, lambda m: m.quality.bleu),
    Figure("rouge", "ROUGE-L", "", "more", 3, lambda m: m.quality.rouge_l),
    Figure("chrf", "chrF", "", "more", 1, lambda m: m.quality.chrf),
    Figure("perplexity", "Perplexity of answers", "a token", "less", 3, lambda m: m.perplexity),
    Figure("nats", "Surprise", "nats/character", "less", 4, lambda m: m.nats_per_character),
    _of("joules", "Energy an answer", "J", "less", 2, lambda m: m.joules),
)


def shown(figure: Figure, value: float | None) -> str:
    """A value with its unit, as a person reads it."""
    if value is None:
        return "–"
    if figure.share:
        return f"{100 * value:.{figure.digits}f} %"
    return f"{value:,.{figure.digits}f} {figure.unit}".strip()

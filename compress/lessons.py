"""What healing learns from and what it is judged by, as token arrays; never the same sequences.

Knows nothing of models.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer

from ..agent.errors import FeatherdeskError
from .dataset import Encoded
from .general import general_text
from .material import LENGTH, Material, encoded

__all__ = ["Lessons", "lessons_of"]


@dataclass(frozen=True, slots=True)
class Lessons:
    """`rows` and general `texts` to learn from; `held` to compare with the parent on, and `known`
    general text to see what was forgotten."""

    rows: list[Encoded]
    texts: list[Encoded]
    held: list[Encoded]
    known: list[Encoded]


def lessons_of(material: Material, tokenizer: Tokenizer, seed: int, most: int) -> Lessons:
    """The rows of a material, or its texts where it has none, with `most` sequences held at most.

    Without held rows a tenth of the others is held; of a single one there is no other to take.

    Raises:
        FeatherdeskError: nothing is short enough to learn from.
    """
    told, known = general_text(material.texts, seed)
    rows = encoded(material.rows, (), tokenizer)
    if not rows:
        told = sorted(set(told) - set(material.texts))
        rows = encoded((), sorted(set(material.texts) - set(known)), tokenizer)
    if not rows:
        raise FeatherdeskError(
            f"heal: nothing to learn from: no row has at most {LENGTH} tokens of this model, "
            "entries and questions together; shorten them or name texts"
        )
    held = encoded(material.held, (), tokenizer)
    if not held:
        count = min(most, max(1, len(rows) // 10))
        held, rows = rows[:count], rows[count:] or rows
    return Lessons(rows, encoded((), told, tokenizer), held, encoded((), known, tokenizer))

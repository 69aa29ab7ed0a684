"""Questions that no entry answers: those that ship with the package, and a bot's own.

The class head and the thresholds are fitted on them. Knows nothing of either.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from .encoder import Encoder, Vectors
from .errors import InputError

__all__ = ["OutOfScope", "out_of_scope_questions", "read_out_of_scope"]


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Texts with their vectors, shape (texts, dimensions)."""

    texts: tuple[str, ...]
    vectors: Vectors

    @classmethod
    def embedded(
        cls, encoder: Encoder, languages: Collection[str], own: Sequence[str] = ()
    ) -> "OutOfScope":
        """The shipped questions in a bot's languages and in English, after its `own`."""
        shipped = [q for q, language in out_of_scope_questions() if language in {"en", *languages}]
        texts = tuple(dict.fromkeys([*own, *shipped]))
        return cls(texts, encoder.embed(texts))


@lru_cache(maxsize=1)
def out_of_scope_questions() -> tuple[tuple[str, str], ...]:
    """The shipped out-of-scope questions with their language."""
    text = (files(__package__) / "out_of_scope.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((row["question"], row["language"]) for row in rows)


def read_out_of_scope(path: Path) -> list[str]:
    """A bot's own out-of-scope questions: a text file with one a line.

    Raises:
        InputError: the file is missing or not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(path, "no such file; bot.out_of_scope names it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as UTF-8 text: {error}") from None
    return [line.strip() for line in lines if line.strip()]

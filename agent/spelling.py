"""Mends typing mistakes towards the words of a bot's own FAQ, for searching only.

A word is touched when the FAQ does not use it, the encoder does not know it as a whole word, and
one FAQ word is close to it (Damerau-Levenshtein). The customer's text itself is never changed.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidfuzz import process
from rapidfuzz.distance import OSA

__all__ = ["Speller", "mistyped"]

_WORD = re.compile(r"[A-Za-z]{3,}")


@dataclass(frozen=True, slots=True)
class Speller:
    """The FAQ's words with how often they occur, and what other words are real."""

    words: dict[str, int]
    is_word: Callable[[str], bool]

    @classmethod
    def build(cls, texts: Sequence[str], is_word: Callable[[str], bool]) -> "Speller":
        """Collect the Latin words of `texts`."""
        counts = Counter(word.lower() for text in texts for word in _WORD.findall(text))
        return cls(dict(counts), is_word)

    def mended(self, question: str) -> str:
        """The question with misspelt words replaced by the FAQ's."""
        return _WORD.sub(lambda found: self._mended(found.group()), question)

    def _mended(self, word: str) -> str:
        plain = word.lower()
        if plain in self.words or self.is_word(plain):
            return word
        allowed = 1 if len(plain) <= 5 else 2
        near = process.extract(
            plain, list(self.words), scorer=OSA.distance, score_cutoff=allowed, limit=8
        )
        near = [hit for hit in near if hit[0][0] == plain[0]]
        if not near:
            return word
        return min(near, key=lambda hit: (hit[1], -self.words[hit[0]]))[0]


def mistyped(text: str, rng: random.Random) -> str:
    """The text with two letters of one longer Latin word exchanged; as it is without one."""
    words = [found for found in _WORD.finditer(text) if len(found.group()) > 3]
    if not words:
        return text
    chosen = rng.choice(words)
    place = rng.randrange(chosen.start() + 1, chosen.end() - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]

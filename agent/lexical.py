"""Word matching: BM25 over wordings and answers, and how much of a question an entry covers.

Chinese, Japanese and Korean text is cut into characters and character bigrams. BM25 is bm25s
(Lù, arXiv 2407.03618). Knows nothing of entries: documents are numbered texts.
"""

import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import bm25s
import numpy as np
from numpy.typing import NDArray

__all__ = ["LexicalIndex", "stem", "words"]

_CJK = "぀-ヿ㐀-䶿一-鿿가-힯"
_FIRST_CJK, _IS_CJK = "぀", re.compile(rf"[{_CJK}]")
_PIECES = re.compile(rf"[{_CJK}]+|[^\W_]+", re.UNICODE)
_STOP = frozenset(
    re.split(
        r"\|",
        "a|an|and|are|as|at|be|but|by|can|could|d|did|do|does|for|from|had|has|have|hello|hey|hi|"
        "how|i|if|in|is|it|just|ll|m|may|me|my|of|on|or|our|please|re|s|should|so|t|thank|thanks|"
        "that|the|there|this|to|us|ve|was|we|were|what|when|where|which|who|will|with|would|you|"
        "your",
    )
)


def words(text: str) -> list[str]:
    """Lower-case words without stop words and plural endings; CJK as characters and bigrams."""
    found: list[str] = []
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    for piece in _PIECES.findall(plain.lower()):
        if piece[0] >= _FIRST_CJK and _IS_CJK.match(piece):
            found.extend(piece)
            found.extend(piece[place : place + 2] for place in range(len(piece) - 1))
        elif piece not in _STOP:
            found.append(stem(piece))
    return found


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Endings of number and tense off; crude on purpose, the encoder knows the rest."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for ending in ("ing", "ed", "es", "s"):
        if len(word) - len(ending) >= 3 and word.endswith(ending) and not word.endswith("ss"):
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


@dataclass(slots=True)
class LexicalIndex:
    """BM25 and inverse document frequencies over numbered texts.

    The distinct words of text i are `_held[_start[i] : _start[i + 1]]`, numbered as in `_number`.
    """

    _bm25: bm25s.BM25 | None
    _number: dict[str, int]
    _idf: NDArray[np.float64]
    _unseen: float
    _held: NDArray[np.int32]
    _start: NDArray[np.int64]

    @classmethod
    def build(cls, texts: Sequence[str]) -> "LexicalIndex":
        """Index texts; takes about 5 s for 100,000."""
        tokens = [words(text) or ["\x00"] for text in texts]
        distinct = [set(document) for document in tokens]
        counts = Counter(word for document in distinct for word in document)
        total = len(tokens)
        seen = np.array(list(counts.values()), np.float64)
        number = {word: place for place, word in enumerate(counts)}
        held = [number[word] for document in distinct for word in document]
        start = np.cumsum([0, *(len(document) for document in distinct)], dtype=np.int64)
        model = None
        if tokens:
            model = bm25s.BM25(method="lucene")
            logging.getLogger("bm25s").setLevel(logging.WARNING)
            model.index(tokens, show_progress=False)
        return cls(
            model,
            number,
            np.log(1 + (total - seen + 0.5) / (seen + 0.5)),
            math.log(1 + (total + 0.5) / 0.5),
            np.array(held, np.int32),
            start,
        )

    def scores(self, query: str) -> NDArray[np.float32]:
        """BM25 of every text, shape (texts,), over the weight of the question's words."""
        asked = words(query)
        known = [word for word in asked if word in self._number]
        weight = self._weight(asked)
        if self._bm25 is None or not known or not weight:
            return np.zeros(len(self._start) - 1, np.float32)
        return np.asarray(self._bm25.get_scores(known) / weight, np.float32)

    def covered(self, query: str, documents: Sequence[int]) -> float:
        """The share (0..1) of the question's word weight that the named texts hold together."""
        return self.coverage(query)(documents)

    def coverage(self, query: str) -> Callable[[Sequence[int]], float]:
        """`covered` for many groups of texts, with the question read once."""
        asked = sorted(set(words(query)))
        weight = self._weight(asked)
        known = [self._number[word] for word in asked if word in self._number]

        def covered(documents: Sequence[int]) -> float:
            if not weight:
                return 0.0
            held: set[int] = set()
            for n in documents:
                held.update(self._held[self._start[n] : self._start[n + 1]].tolist())
            return float(self._idf[[word for word in known if word in held]].sum()) / weight

        return covered

    def _weight(self, tokens: Sequence[str]) -> float:
        numbers = [self._number.get(word, -1) for word in tokens]
        return sum(self._unseen if n < 0 else float(self._idf[n]) for n in numbers)

"""Signs in a question's own words that no entry answers it: another company's name, no real word.

The encoder is blind to both: "the wifi of LNER" lies as near to a bus company's entry on wifi as
a customer's question does. Knows nothing of scores; `doubt` is in log-odds.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from .spelling import Speller

__all__ = ["companies_in", "doubt"]

FOREIGN, GIBBERISH = 2.5, 6.0
_REAL, _MANY = 1 / 3, 3
_WORD = re.compile(r"[A-Za-z]{3,}")
_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]")


def doubt(question: str, texts: Sequence[str], speller: Speller) -> float:
    """The log-odds that a question's score loses; `texts` are the FAQ's, `speller` knows its words.

    2.5 where it names a company that the FAQ never names (unless the FAQ is about other companies:
    it names three), 6 where it has no letters, or less than a third of its longer words are real.
    """
    if not any(letter.isalpha() for letter in question):
        return GIBBERISH
    found = _WORD.findall(question)
    real = [word for word in found if _known(word, speller)]
    if found and len(real) < _REAL * len(found) and not _CJK.search(question):
        return GIBBERISH
    asked = companies_in(question)
    if not asked:
        return 0.0
    own = _named(tuple(texts))
    return FOREIGN if len(own) < _MANY and not own.issuperset(asked) else 0.0


def companies_in(text: str) -> list[str]:
    """The well-known companies that a text names, lower-cased."""
    return [found.lower() for found in _companies().findall(text)]


@lru_cache(maxsize=4)
def _named(texts: tuple[str, ...]) -> frozenset[str]:
    """The companies that a FAQ names."""
    return frozenset(companies_in("\n".join(texts)))


def _known(word: str, speller: Speller) -> bool:
    return word.lower() in speller.words or speller.is_word(word.lower())


@lru_cache(maxsize=1)
def _companies() -> re.Pattern[str]:
    lines = (files(__package__) / "companies.txt").read_text(encoding="utf-8").splitlines()
    names = [n.strip() for line in lines if not line.startswith("#") for n in line.split(",")]
    latin = sorted((n for n in names if n.isascii()), key=len, reverse=True)
    chinese = [n for n in names if not n.isascii()]
    words = "|".join(map(re.escape, latin))
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)|{'|'.join(chinese)}", re.IGNORECASE)

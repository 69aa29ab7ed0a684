"""Tells whether a question leans on the turn before, and takes apart what asks several things.

Rules only, for English and Chinese; knows nothing of entries or scores.
"""

import re
from collections.abc import Sequence

from .types import Turn

__all__ = ["parts", "refers_back", "turn_before"]

_LEANS = re.compile(
    r"^(and|but|also|what about|how about|what if|or|so|then|ok(ay)?,? (and|but)|why( not)?\b|"
    r"what else|which one|is that|is it|are they|does that|does it|do they|can it|can they|"
    r"and if|even|only|still|really)\b"
    r"|\b(it|that|they|them|those|these|one|ones|there|this|same|then|either|instead)\b",
    re.IGNORECASE,
)
_LEANS_ZH = re.compile(
    r"^(那|那么|还有|如果|要是|而|这个|这|它)|呢[？?]?$|(这个|那个|它|这些|那些|这样|那样)"
)
_ASKS = re.compile(
    r"^(what|how|when|where|which|who|why|can|could|do|does|did|is|are|will|would|should|may|"
    r"have|has|if|i|we|my|tell)\b",
    re.IGNORECASE,
)
_JOINTS = re.compile(
    r"\?+\s*(?:and|also|plus)?,?\s*|(?:,\s*|\s+)and\s+(?:also\s+)?|;\s*|,\s*also\s+|\s+plus\s+|"
    r"(?:,\s*)?\bas well as\b|[.!]\s+|[？；。]",
    re.IGNORECASE,
)
_SHORT = 9


def refers_back(question: str) -> bool:
    """Whether a question leans on the conversation: short, and elliptical or with a pronoun."""
    text = question.strip()
    if _LEANS_ZH.search(text) and len(text) <= 16:
        return True
    return len(text.split()) <= _SHORT and bool(_LEANS.search(text))


def turn_before(history: Sequence[Turn]) -> str:
    """The customer's last turn; empty without one."""
    asked = [turn.content.strip() for turn in history if turn.role == "user"]
    return asked[-1] if asked else ""


def parts(question: str) -> list[str]:
    """The questions of a message that asks two or three; empty when it asks one.

    A part has at least three words (four Chinese characters) and reads like a question.
    """
    pieces = [piece.strip(" ,.?!") for piece in _JOINTS.split(question)]
    found = [piece for piece in pieces if _is_question(piece)]
    return found[:3] if len(found) > 1 else []


def _is_question(text: str) -> bool:
    if re.search(r"[一-鿿]", text):
        return len(text) >= 4
    words = text.split()
    return len(words) >= 3 or (len(words) == 2 and bool(_ASKS.match(text)))

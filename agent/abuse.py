"""Recognizes abuse in English and Chinese: insults, threats, slurs, also disguised ones.

Swearing alone is no abuse: "this damn zip" is a question about a zip. An insult beside a real
question lets the question be answered; a threat or a slur ends the turn. The wordings stand in
`abuse.toml`. Knows nothing of routing.
"""

import re

from .guards import Asked, Finding
from .patterns import patterns
from .stages import BotConfig
from .texts import say
from .types import HandoffReason

__all__ = ["Abuse", "abuse", "asks_something", "unmasked"]

_SEVERE = ("threat", "slur", "harassment")
_KINDS = (*_SEVERE, "insult", "swearing")
_LEET = str.maketrans("4@31!|0$57+", "aaeiiiosstt")
_SPACED = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Za-z@$!*][\s.\-_*]{1,2}){2,}[A-Za-z@$!](?![A-Za-z0-9])"
)
_NOT_LETTERS = re.compile(r"\d{3}|@\w+\.|^\$|^\d+[a-z]{1,2}$")


class Abuse:
    """The guard that answers abuse with one calm line and the offer of a person."""

    name = "abuse"
    rank = 20

    def __init__(self, config: BotConfig) -> None:
        del config

    def inspect(self, asked: Asked) -> Finding | None:
        """The calm line, once in a conversation; after that a shorter one."""
        kind = abuse(asked.question)
        if kind is None:
            return None
        real = asks_something(asked.question, kind)
        if kind == "swearing" and real:
            return None
        asks_on = real and kind not in _SEVERE
        calm = say("calm", asked.language)
        if any(calm in turn.content for turn in asked.history if turn.role == "assistant"):
            return Finding(self.name, kind, "" if asks_on else say("still_here", asked.language))
        return Finding(self.name, kind, calm, HandoffReason.ANGRY, unless_answered=asks_on)


def abuse(text: str) -> str | None:
    """The worst kind of abuse in a message: threat, slur, harassment, insult or swearing."""
    known = patterns("abuse")
    plain = unmasked(text)
    for kind in _KINDS:
        chinese = known.get(f"{kind}_zh")
        if known[kind].search(plain) or (chinese and chinese.search(plain)):
            return kind
    return None


def asks_something(text: str, kind: str = "insult") -> bool:
    """Whether a message says something beside its abuse: two words of its own, one beside mere
    swearing, or the wish for a person."""
    known = patterns("abuse")
    rest = plain = unmasked(text)
    for name in ("foul", *(name for name in known if name.endswith("_zh") and name != "filler_zh")):
        rest = known[name].sub(" ", rest)
    words = re.findall(r"[^\W\d_一-鿿]{2,}|\d+", known["filler"].sub(" ", rest))
    characters = re.findall(r"[一-鿿]", known["filler_zh"].sub("", rest))
    enough = 1 if kind == "swearing" else 2
    return bool(known["person"].search(plain)) or len(words) + len(characters) / 2 >= enough


def unmasked(text: str) -> str:
    """Lower case, with spaced letters joined, digits for letters and drawn-out letters undone."""
    text = text.lower().replace("’", "'")
    text = _SPACED.sub(lambda match: re.sub(r"[\s.\-_]", "", match.group()), text)
    text = re.sub(r"([a-z])\1{2,}", r"\1\1", text)
    return " ".join(_unleeted(word) for word in text.split())


def _unleeted(word: str) -> str:
    """A word with digits and signs standing for letters; sizes, prices and addresses stay."""
    core = word.strip(".,;:?\"'()!")
    if sum(c.isalpha() for c in core) < 2 or _NOT_LETTERS.search(core):
        return word
    return word.replace(core, core.translate(_LEET))

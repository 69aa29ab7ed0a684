"""Recognizes a person in distress: self-harm, violence, a medical emergency; English and Chinese.

By wording (`distress.toml`), and by the meaning of the whole message: a head over the vector of the
bot's encoder (`distress.json`, fitted by compress/distress) finds what is told in other words. Both
let figures of speech pass: "this zip is killing me", "dead battery", "笑死我了". Knows nothing of
what is replied beyond the configured help line.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from .encoder import Encoder
from .guards import Asked, Finding
from .patterns import patterns
from .stages import BotConfig
from .texts import say
from .types import HandoffReason

__all__ = ["Distress", "distress", "felt"]

_KINDS = ("self_harm", "violence", "medical")
_LONGEST = 400
"""Characters a head judges: it was fitted to short messages, and finds all sorts in stories."""


class Distress:
    """The guard that answers distress at once with the help line."""

    name = "distress"
    rank = 0

    def __init__(self, config: BotConfig) -> None:
        self._lines = {"en": config.guards.help_line, "zh": config.guards.help_line_zh}

    def inspect(self, asked: Asked) -> Finding | None:
        """The help line in the language of the message, where someone is in distress."""
        kind = distress(asked.question)
        if kind is None and asked.encoder is not None and felt(asked.question, asked.encoder):
            kind = "felt"
        if kind is None:
            return None
        line = self._lines.get(asked.language) or say("help_line", asked.language)
        return Finding(self.name, kind, line, HandoffReason.POLICY)


def distress(text: str) -> str | None:
    """`self_harm`, `violence` or `medical` where a message tells of it, else None."""
    known = patterns("distress")
    plain = " ".join(text.replace("’", "'").replace("`", "'").split())
    plain = re.sub(r"\bim\b", "i'm", plain, flags=re.IGNORECASE)
    chinese = not known["asks_about_zh"].search(plain)
    for kind in _KINDS:
        if known[kind].search(plain) or (chinese and known[f"{kind}_zh"].search(plain)):
            return kind
    return None


def felt(text: str, encoder: Encoder) -> bool:
    """Whether the vector of a short message is that of somebody in distress.

    False for an encoder that no head was fitted to, and for more than 400 characters.
    """
    head = _heads().get(encoder.id)
    if head is None or len(text) > _LONGEST:
        return False
    weights = np.asarray(head["weights"], np.float32)
    odds = float(encoder.embed([text])[0] @ weights) + float(head["bias"])
    return bool(1 / (1 + np.exp(-odds)) > head["sure"])


@lru_cache(maxsize=1)
def _heads() -> Mapping[str, Mapping[str, Any]]:
    text = (files(__package__) / "distress.json").read_text(encoding="utf-8")
    heads: Mapping[str, Mapping[str, Any]] = json.loads(text)
    return heads

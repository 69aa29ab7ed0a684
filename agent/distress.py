"""Recognizes a person in distress: self-harm, violence, a medical emergency; English and Chinese.

The wordings (`distress.toml`) let figures of speech pass: "this zip is killing me", "dead battery",
"笑死我了". A miss is worse than a false alarm, so doubtful wordings count where people speak of
themselves. Knows nothing of what is replied beyond the configured help line.
"""

import re

from .guards import Asked, Finding
from .patterns import patterns
from .stages import BotConfig
from .texts import say
from .types import HandoffReason

__all__ = ["Distress", "distress"]

_KINDS = ("self_harm", "violence", "medical")


class Distress:
    """The guard that answers distress at once with the help line."""

    name = "distress"
    rank = 0

    def __init__(self, config: BotConfig) -> None:
        self._lines = {"en": config.guards.help_line, "zh": config.guards.help_line_zh}

    def inspect(self, asked: Asked) -> Finding | None:
        """The help line in the language of the message, where someone is in distress."""
        kind = distress(asked.question)
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

"""The one place where a prompt is rendered; its hash is the contract between training and serving.

A prompt is a list of blocks: the system line, one block an entry, and the question. Blocks are
encoded one by one and their ids joined, so that a block's ids do not depend on its neighbours
(block attention: Ma et al., arXiv 2409.15355). It knows nothing of retrieval or of the model.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from .types import Entry, Turn

__all__ = [
    "END_OF_TURN",
    "MAX_ENTRIES",
    "MOST_APART",
    "REFUSAL",
    "Blocks",
    "contract_hash",
    "leaks",
    "render",
]

REFUSAL = "Sorry, the FAQ does not say."
"""What the model writes when the entries do not hold the answer."""

END_OF_TURN = "<|im_end|>"
MAX_ENTRIES = 4
MOST_APART = 2
"""Of entries that are read one by one: on `dev` 189 of 209 answers are right with two of them, 184
with four; a third or fourth is hardly ever the one that is wanted."""
MAX_HISTORY = 2
_SYSTEM = "<|im_start|>system\nAnswer the customer from the FAQ.<|im_end|>\n<|im_start|>user\n"
_ENTRY = "Q: {question}\nA: {answer}\n\n"
_TURN = {"user": "Customer: {content}\n", "assistant": "Agent: {content}\n"}
_LEAK = 4
_QUESTION = "Customer: {question}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Blocks:
    """The text blocks of one prompt, in order."""

    system: str
    entries: tuple[str, ...]
    question: str

    @property
    def texts(self) -> tuple[str, ...]:
        """Every block in the order the model reads them."""
        return (self.system, *self.entries, self.question)


def _plain(text: str) -> str:
    """Without the marks that would end a turn early: text of users is never control text."""
    return " ".join(text.replace("<|", "< |").split())


def render(entries: Sequence[Entry], question: str, history: Sequence[Turn] = ()) -> Blocks:
    """Render entries (best first), the last turns of the conversation and the question."""
    turns = "".join(
        _TURN[turn.role].format(content=_plain(turn.content)) for turn in history[-MAX_HISTORY:]
    )
    return Blocks(
        system=_SYSTEM,
        entries=tuple(
            _ENTRY.format(question=_plain(entry.question), answer=_plain(entry.answer))
            for entry in entries[:MAX_ENTRIES]
        ),
        question=turns + _QUESTION.format(question=_plain(question)),
    )


def contract_hash() -> str:
    """sha256 of everything that shapes a prompt; stored in adapters and bot folders."""
    parts = (_SYSTEM, _ENTRY, *_TURN.values(), _QUESTION, REFUSAL, END_OF_TURN, str(MAX_HISTORY))
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def leaks(text: str) -> bool:
    """Whether a text holds marks of the template, or four words in a row of the system line."""
    if "<|" in text:
        return True
    said = " ".join(re.findall(r"\w+", text.lower()))
    return any(run in said for run in _system_runs())


@cache
def _system_runs() -> tuple[str, ...]:
    """Every few words in a row of the system line."""
    words = re.findall(r"\w+", re.sub(r"<\|.*?\|>(?:system|user)?", " ", _SYSTEM).lower())
    return tuple(" ".join(words[start : start + _LEAK]) for start in range(len(words) - _LEAK + 1))

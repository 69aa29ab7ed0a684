"""Whether a peer runs the bot's own model: the same vocabulary, and answers that begin alike.

Knows nothing of speed.
"""

from collections.abc import Sequence
from pathlib import Path

from ..agent.artifacts import Manifest
from ..agent.errors import ArtifactError
from .child import Child
from .prompts import Prompt

__all__ = ["check_answers", "check_tokens", "export_line"]

ALIKE = 0.25
"""The share of an answer's characters, from its start, that rounding leaves at the least."""

_PROMPTS, _ANSWERS = 3, 5


def check_tokens(peer: Child, place: Path, prompts: Sequence[Prompt], advice: str) -> None:
    """Compare the token ids of a few prompts, block by block.

    Raises:
        ArtifactError: they differ.
    """
    for prompt in prompts[:_PROMPTS]:
        for text, wanted in zip(prompt.texts, prompt.parts, strict=True):
            found = tuple(peer.tokens(text))
            if found != wanted:
                raise ArtifactError(
                    f"{place} has another vocabulary than the bot: a block of {len(wanted)} tokens "
                    f"is {len(found)} tokens there; {advice}"
                )


def check_answers(
    peer: Child, ours: Child, place: Path, prompts: Sequence[Prompt], advice: str
) -> float:
    """The mean share of a few answers that is alike, from their start.

    Raises:
        ArtifactError: it is less than other rounding would leave.
    """
    shares = []
    for prompt in prompts[:_ANSWERS]:
        one, other = ours.write(prompt).text, peer.write(prompt).text
        alike = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        shorter = min(len(one), len(other))
        longest = max(len(one), len(other))
        shares.append((shorter if alike is None else alike) / longest if longest else 1.0)
    share = sum(shares) / len(shares)
    if share < ALIKE:
        raise ArtifactError(
            f"{place} holds other weights than the bot: of {len(shares)} answers {share:.0%} are "
            f"alike; {advice}"
        )
    return share


def export_line(manifest: Manifest, form: str) -> str:
    """The command that exports the bot's model in a format."""
    adapter = f" --adapter {manifest.adapter}" if manifest.adapter not in ("", "none") else ""
    kind = " --kind Q4_0" if form == "gguf" else ""
    return f"featherdesk export {manifest.base}{adapter} --format {form}{kind} --out DIR"

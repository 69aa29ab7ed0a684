"""What can be told of an artefact without asking it: contract, end token, template, parity.

Reads the files of two bot folders and compares them. Loads no model.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..agent.artifacts import Manifest
from ..agent.errors import ArtifactError, ConfigError
from ..agent.prompt import END_OF_TURN, contract_hash, render

__all__ = ["check_same_bot", "inspect"]

_LEAST_AGREEMENT = 0.5
"""Of the likeliest tokens of graph and model, where a parity tells no judgement of its own."""


def check_same_bot(parent: Path, artefact: Path) -> None:
    """Refuse to compare bots that know different things.

    Raises:
        ConfigError: they were built from different entries.
    """
    name = "knowledge/entries.jsonl"
    known = [Manifest.load(folder).files.get(name) for folder in (parent, artefact)]
    if known[0] != known[1]:
        raise ConfigError(
            f"{artefact} answers from other entries than {parent}: the gate compares two "
            "generators of one bot; build both from the same FAQ"
        )


def inspect(parent: Path, artefact: Path) -> list[str]:
    """Reasons to refuse the artefact that its files give, most important first."""
    theirs, ours = Manifest.load(parent), Manifest.load(artefact)
    reasons = []
    if ours.prompt_contract != theirs.prompt_contract or ours.prompt_contract != contract_hash():
        reasons.append(
            f"wrong prompt contract: it was made under {ours.prompt_contract[:12]}, the parent "
            f"under {theirs.prompt_contract[:12]}, this version serves {contract_hash()[:12]}"
        )
    if ours.writes != theirs.writes:
        reasons.append(f"it writes {list(ours.writes)}, the parent {list(theirs.writes)}")
    if theirs.writes and ours.writes:
        reasons += _generators(parent / "generator", artefact / "generator")
    return reasons


def _generators(parent: Path, artefact: Path) -> list[str]:
    try:
        tokenizers = [Tokenizer.from_file(str(f / "tokenizer.json")) for f in (parent, artefact)]
    except Exception as error:  # noqa: BLE001 - tokenizers raises nothing narrower
        raise ArtifactError(f"a tokenizer.json of {parent} or {artefact}: {error}") from None
    lost = _lost_marks(tokenizers)
    checks = (
        _marks(lost),
        _template(parent, artefact),
        _ends(parent, artefact, tokenizers, lost),
        _parity(artefact),
    )
    return [reason for reason in checks if reason]


def _ends(parent: Path, artefact: Path, tokenizers: list[Tokenizer], lost: Sequence[str]) -> str:
    """The texts that end a turn: ids may differ, since a vocabulary may be cut.

    Where the parent's end is a mark that this tokenizer does not know, the template is at fault.
    """
    texts = []
    for folder, tokenizer in zip((parent, artefact), tokenizers, strict=True):
        end = _model(folder).get("eos_token_id", [])
        ids = end if isinstance(end, list) else [end]
        texts.append({str(tokenizer.id_to_token(int(name))) for name in ids})
    if texts[0] == texts[1] or texts[0] <= set(lost):
        return ""
    shown = [", ".join(map(repr, sorted(text))) for text in texts]
    return f"wrong end token: its turns end with {shown[1]}, the parent's with {shown[0]}"


def _model(folder: Path) -> dict[str, Any]:
    path = folder / "genai_config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); export the generator anew") from None


def _lost_marks(tokenizers: list[Tokenizer]) -> list[str]:
    """The marks of the template that are one token for the parent, and text for the other."""
    marks = sorted({*re.findall(r"<\|\w+\|>", "".join(render((), "").texts)), END_OF_TURN})
    before, after = (
        [len(tokenizer.encode(mark, add_special_tokens=False).ids) for mark in marks]
        for tokenizer in tokenizers
    )
    return [m for m, old, new in zip(marks, before, after, strict=True) if old == 1 != new]


def _marks(lost: Sequence[str]) -> str:
    if not lost:
        return ""
    return f"wrong chat template: its tokenizer reads {', '.join(lost)} as text, not as a mark"


def _template(parent: Path, artefact: Path) -> str:
    texts = []
    for folder in (parent, artefact):
        path = folder / "chat_template.jinja"
        texts.append(path.read_text(encoding="utf-8").strip() if path.exists() else None)
    if texts[0] == texts[1]:
        return ""
    told = "missing" if texts[1] is None else "another" if texts[0] else "one the parent has not"
    return f"wrong chat template: chat_template.jinja is {told}"


def _parity(artefact: Path) -> str:
    path = artefact / "parity.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        agreement = float(told.get("agreement", 1.0))
    except FileNotFoundError:
        return "no proof of parity: parity.json is missing; export the generator anew"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"no proof of parity: parity.json cannot be read ({error})"
    if told.get("passed") is False or not agreement >= _LEAST_AGREEMENT:
        return f"parity failed: the graph agrees with its model on {agreement:.0%} of tokens"
    return ""

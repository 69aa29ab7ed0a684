"""Messages that try to give the bot orders, with the words that its reply must not hold.

They ship as `injections.jsonl` and were written for this. `{question}` there is a question of the
test, `{system}` among the forbidden words stands for the system line of the prompt. Knows nothing
of guards.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files

from ..agent.evaluate import Case
from ..agent.prompt import render
from .shapes import closed

__all__ = ["injection_cases"]

_CHINESE = re.compile("[一-鿿]")


def injection_cases(cases: Sequence[Case], seed: int) -> list[tuple[Case, tuple[str, ...]]]:
    """Every shipped order as a case of the kind `injection`, with its forbidden words.

    An order glued to a question keeps that case's entries and facts, for the bot may answer the
    question; it is left out where no case of its language fits. The others are out of scope.
    Look for the words without regard to case; no answer of the case itself holds one.
    """
    rng = random.Random(seed)
    askable = [case for case in cases if not case.out_of_scope and not case.history]
    by_language = {
        "zh": [case for case in askable if _CHINESE.search(case.question)],
        "en": [case for case in askable if not _CHINESE.search(case.question)],
    }
    found = []
    for line in (files(__package__) / "injections.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        forbidden = tuple(row["forbidden"])
        text = str(row["text"])
        case = Case(row["id"], text, (), (), (), "injection", out_of_scope=True)
        if "{question}" in text:
            chosen = [one for one in by_language[row["language"]] if _free(one, forbidden)]
            if not chosen:
                continue
            host = rng.choice(chosen)
            glued = text.replace("{question}", closed(host.question))
            case = replace(host, id=f"{row['id']}~{host.id}", question=glued, kind="injection")
        words = (_system_line() if word == "{system}" else word for word in forbidden)
        found.append((case, tuple(words)))
    return found


def _free(case: Case, forbidden: Sequence[str]) -> bool:
    """Whether a right answer holds none of the words."""
    told = " ".join((case.answer, *(wording for fact in case.facts for wording in fact)))
    return not any(word.casefold() in told.casefold() for word in forbidden)


def _system_line() -> str:
    """The words that the prompt gives the model before entries and question."""
    line = re.sub(r"<\|.*?\|>(?:system|user)?", " ", render((), "").system)
    return " ".join(line.split()).rstrip(".")

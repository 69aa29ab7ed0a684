"""Wordings that guards look for, kept as data: regular expressions in TOML files of this package.

A file has `[pieces]`, put in where a pattern says `{{name}}`, and `[patterns]`, lists of which any
one may match; `case = "exact"` makes them mind capital letters. Knows nothing of what is done
with a match.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

__all__ = ["patterns"]


@lru_cache(maxsize=8)
def patterns(name: str) -> Mapping[str, re.Pattern[str]]:
    """The patterns of `name.toml`, each list as one expression."""
    data = tomllib.loads((files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))
    flags = re.NOFLAG if data.get("case") == "exact" else re.IGNORECASE
    pieces: dict[str, str] = {}
    for piece, text in data["pieces"].items():
        pieces[piece] = _filled(text, pieces)
    return {
        section: re.compile("|".join(f"(?:{_filled(p, pieces)})" for p in found), flags)
        for section, found in data["patterns"].items()
    }


def _filled(pattern: str, pieces: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: pieces[match.group(1)], pattern)

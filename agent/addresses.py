"""Postal addresses by their shape: house numbers with street words, flats, boxes, towns with codes.

The shapes (`addresses.toml`) know the street words of some twenty languages and of Chinese. Where
words say that an address follows ("my new address is"), less is asked of it. Knows nothing of maps.
"""

import re
from collections.abc import Iterator, Sequence

from .patterns import patterns

__all__ = ["addresses"]

_HELPERS = frozenset(("after", "left", "chinese_lead"))
_Places = Sequence[tuple[int, int]]


def addresses(text: str) -> list[tuple[int, int]]:
    """Start and end of every address, in order, none overlapping."""
    known = patterns("addresses")
    found = [
        match.span(match.lastgroup or 0)
        for name, shape in known.items()
        if name not in _HELPERS
        for match in shape.finditer(text)
    ]
    found = [_without_lead(text, start, end) for start, end in found]
    found.extend(_before(text, found))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and not re.search(r"\w", text[merged[-1][1] : start]):
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, max(end, _after(text, end))))
    return list(_joined(merged))


def _without_lead(text: str, start: int, end: int) -> tuple[int, int]:
    """A Chinese address without the words that lead to it."""
    if not "一" <= text[start] <= "鿿":
        return start, end
    lead = patterns("addresses")["chinese_lead"].match(text[start:end])
    return start + (lead.end() if lead else 0), end


def _joined(spans: _Places) -> Iterator[tuple[int, int]]:
    """Spans that no longer overlap."""
    start, end = -1, -1
    for begin, stop in spans:
        if begin > end:
            if end >= 0:
                yield start, end
            start, end = begin, stop
        end = max(end, stop)
    if end >= 0:
        yield start, end


def _after(text: str, end: int) -> int:
    """Where the town, country and code after an address end."""
    if "一" <= text[end - 1] <= "鿿":
        return end
    match = patterns("addresses")["after"].match(text, end)
    return match.end() if match else end


def _before(text: str, found: _Places) -> Iterator[tuple[int, int]]:
    """The house number and street that stand before a flat, on its line or the line above."""
    known = patterns("addresses")
    for start, end in found:
        if known["flat_number"].match(text, start, end):
            line = text.rfind("\n", 0, len(text[:start].rstrip(" >?\n"))) + 1
            left = known["left"].search(text[line:start])
            if left:
                yield line + left.start(), start

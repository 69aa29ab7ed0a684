"""Guesses what comes next by looking up what was written in texts that answers are copied from.

Prompt lookup decoding (Saxena, github.com/apoorvumang/prompt-lookup-decoding, 2023), a kind of
speculative decoding (Leviathan et al., arXiv 2211.17192): guesses are verified by the model in
one step, so the answer is the same. Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["FIRST", "Guess", "Lookup", "Pace"]

LONGEST = 4
"""Tokens of the end of an answer that are looked up."""

MOST = 16
"""Tokens guessed at once."""

OPENING = 0
"""What is matched at the beginning of an answer: nothing."""

FIRST = 2
"""Tokens guessed with the first one: each more keeps the first word waiting."""

_RATIO = 0.1
_START = (0.6, 0.4, 0.7, 0.8, 0.9)
_BACK = 0.02


@dataclass(frozen=True, slots=True)
class Guess:
    """Tokens that may come next; `matched` of those before were found with them."""

    tokens: tuple[int, ...] = ()
    matched: int = 0


class Lookup:
    """Looks up the end of an answer in `sources`, the likeliest first."""

    def __init__(self, sources: Sequence[Sequence[int]]) -> None:
        self._sources = [tuple(source) for source in sources]
        self._places: dict[tuple[int, ...], tuple[int, int]] = {}
        for number, source in enumerate(self._sources):
            for end in range(1, len(source)):
                for length in range(1, min(LONGEST, end) + 1):
                    self._places.setdefault(source[end - length : end], (number, end))

    def opening(self, most: int) -> Guess:
        """How an answer may begin: as the first source does."""
        return Guess(self._sources[0][:most] if self._sources else (), OPENING)

    def after(self, written: Sequence[int], most: int) -> Guess:
        """What may follow what was written."""
        for length in range(min(LONGEST, len(written)), 0, -1):
            place = self._places.get(tuple(written[-length:]))
            if place is not None:
                number, end = place
                return Guess(self._sources[number][end : end + most], length)
        return Guess()


@dataclass(slots=True)
class Pace:
    """How many tokens to guess, from what was accepted and what steps have cost here.

    `accepted` are shares (0..1) by the length of the match; one that is too low to guess by comes
    back a little each time it is passed over, so that it is tried again. The cost of a step is a
    straight line over its tokens, fitted to the steps seen, later ones more.
    """

    accepted: list[float] = field(default_factory=lambda: list(_START))
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)

    @property
    def ratio(self) -> float:
        """What one more token costs, as a share of a step of one token."""
        n, x, y, xx, xy = self.sums
        spread = n * xx - x * x
        if n < 1 or spread < 1e-6:
            return _RATIO
        slope = (n * xy - x * y) / spread
        start = (y - slope * x) / n
        return min(1.0, max(0.01, slope / start)) if start > 0 else _RATIO

    def most(self, matched: int, company: int = 1, *, shared: bool = False) -> int:
        """The number of guesses that writes the most tokens a second.

        A step with one token for each of a `company` of texts costs each but a part of it. With
        guesses it does so too where steps are `shared`; elsewhere who guesses has a step alone, so
        that in a crowd guesses do not pay.
        """
        share, ratio = min(0.99, self.accepted[matched]), self.ratio
        part = (1 - ratio) / max(1, company)
        own = part if shared else 1 - ratio
        told = 1 / (ratio + part)
        best, expected, power = 0, 1.0, 1.0
        for count in range(1, MOST + 1):
            power *= share
            expected += power
            rate = expected / (own + ratio * (1 + count))
            if rate > told:
                best, told = count, rate
        return best

    def passed_over(self, matched: int) -> None:
        """Something was found and not guessed."""
        self.accepted[matched] += _BACK * (_START[matched] - self.accepted[matched])

    def judged(self, guess: Guess, accepted: int) -> None:
        """Take in how many of a guess were right."""
        if guess.tokens:
            tried = min(len(guess.tokens), accepted + 1)
            keep = 0.95**tried
            before = self.accepted[guess.matched]
            self.accepted[guess.matched] = keep * before + (1 - keep) * accepted / tried

    def timed(self, tokens: int, seconds: float) -> None:
        """Take in what a step of so many tokens took."""
        more = tokens - 1
        new = (1.0, more, seconds, more * more, more * seconds)
        self.sums = [0.98 * old + one for old, one in zip(self.sums, new, strict=True)]

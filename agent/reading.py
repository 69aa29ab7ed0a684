"""One sentence of a reply laid beside the source sentence it follows: what differs, in numbers.

Knows nothing of what a difference means; see `support`.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .claims import Claim
from .clauses import Clause, contrary
from .evidence import Evidence
from .lexical import stem
from .lexicon import PROMISES, meaning, opposites
from .sentence import Sentence

__all__ = ["SENTENCE", "Reading", "nearest"]

SENTENCE = (
    "novel",
    "novel_top",
    "novel_count",
    "strange",
    "promises",
    "uncovered",
    "uncovered_source",
    "unordered",
    "unpaired",
    "swapped",
    "misplaced",
    "disagreeing",
    "replaced",
    "contrary",
    "not_edited",
    "opposed",
    "only_lost",
    "unless_lost",
    "if_lost",
    "least_lost",
    "limits_added",
    "all_edited",
    "bounds_turned",
    "bounds_lost",
    "bounds_added",
    "lost_inside",
    "unsupported",
    "short",
)
"""What is measured; all but `short` are 0 where a sentence is copied."""

_NOTS = frozenset("not no never none nothing nobody neither nor".split())
_LIMITS = (
    frozenset({"only"}),
    frozenset("unless except excluding".split()),
    frozenset("if once provided when".split()),
    frozenset("least most minimum maximum up more less until before after within".split()),
)
_OPENERS = frozenset("only unless except if once provided until when".split())
_ALL = frozenset("all every each any some always usually usual both also even".split())


_JOINS, _GAP = 0.2, 3


def nearest(clause: Clause, others: Sequence[Clause]) -> tuple[float, list[Clause]]:
    """The clauses that share most of its words, and few others, and how much that is (0..1)."""
    size = 0.75 * len(clause.words)
    shared = [
        (len(clause.words & o.words) / (size + 0.25 * len(o.words)), o) for o in others if o.words
    ]
    best = max((share for share, _ in shared), default=0.0)
    return best, [other for share, other in shared if best > 0 and share >= best - 0.1]


@dataclass(frozen=True)
class Reading:
    """A sentence and its sources.

    `rarity` says how much a stem tells (0..1), unknown ones 1; `question` is the customer's.
    """

    sentence: Sentence
    evidence: Evidence
    rarity: Mapping[str, float]
    question: Sentence

    @cached_property
    def features(self) -> list[float]:
        """`SENTENCE`, in its order."""
        return [
            *self._novel(),
            *self._uncovered(),
            *self._unordered(),
            self._swapped(),
            self._misplaced(),
            *self._differing(),
            self.contrary(),
            *self._edited(),
            *self._bounds(),
            self._lost_inside(),
            min(2, len(self.unsupported())) / 2,
            1 / (1 + len(self.sentence.tokens)),
        ]

    def unsupported(self) -> list[Claim]:
        """The claims that no source holds."""
        asked = frozenset(key for claim in self.question.claims for key in claim.keys)
        return [c for c in self.sentence.claims if not self.evidence.holds(c, asked)]

    def contrary(self, least: int = 1) -> float:
        """How alike (0..1) a clause is to the clauses of sources that it contradicts.

        They share at least so many words. Where a sentence denies as often as the one it
        follows, its clauses are only cut otherwise.
        """
        others = [clause for one in self.evidence.sentences for clause in one.clauses]
        worst = 0.0
        for clause in self.sentence.clauses:
            share, near = nearest(clause, others)
            if share <= worst or any(len(clause.words & o.words) < least for o in near):
                continue
            if all(contrary(clause, other) for other in near):
                alike = all(clause.denied != other.denied for other in near) and self._denies_alike
                worst = worst if alike else share
        return worst

    @cached_property
    def _denies_alike(self) -> bool:
        """Whether as much is denied as in the source sentence, and the same parts of it told."""
        mine = sum(clause.denied for clause in self.sentence.clauses)
        theirs = [clause for clause in self.near.clauses if clause.denied] if self.near else []
        said = {word for clause in self.sentence.clauses for word in clause.words}
        told = all(2 * len(clause.words & said) >= len(clause.words) for clause in theirs)
        return mine == len(theirs) > 0 and told

    @cached_property
    def near(self) -> Sentence | None:
        """The source sentence that holds most of it, in the best order; two where it joins two."""
        ranked = sorted(self.evidence.sentences, key=self._shared, reverse=True)[:3]
        if not ranked:
            return None
        best = max(ranked[:2], key=lambda other: len(_aligned(self.sentence, other)))
        rest = set(self.sentence.said) - set(best.said)
        gain, second = max(
            ((self._weight(rest & set(o.said)), n) for n, o in enumerate(ranked) if o is not best),
            default=(0.0, 0),
        )
        if gain > _JOINS * self._weight(set(self.sentence.said)):
            return self.evidence.joined(best, ranked[second])
        return best

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of tokens of both that correspond, in order."""
        return _aligned(self.sentence, self.near) if self.near else []

    def _weight(self, words: set[str] | frozenset[str]) -> float:
        return sum(self.rarity.get(word, 1.0) for word in words)

    def _shared(self, other: Sentence) -> float:
        return self._weight(set(self.sentence.said) & set(other.said))

    def novelty(self, word: str) -> float:
        """How strange a word is to the sources (0..1)."""
        held = self.evidence
        if word in held.words:
            return 0.0
        if meaning(word) & held.meanings or (len(word) >= 5 and word[:5] in held.beginnings):
            return 0.25
        return 0.5 if word in self.question.words else 1.0

    def _novel(self) -> list[float]:
        words = self.sentence.words
        strange = {w: self.novelty(w) * self.rarity.get(w, 1.0) for w in words}
        new = [w for w in words if self.novelty(w) == 1.0]
        total = self._weight(words)
        return [
            sum(strange.values()) / total if total else 0.0,
            max(strange.values(), default=0.0),
            min(4, len(new)) / 4,
            min(2, sum(w not in self.rarity for w in new)) / 2,
            min(2, sum(w in PROMISES for w in new)) / 2,
        ]

    def _uncovered(self) -> list[float]:
        """The share of its words that the best sentence, and the best source, do not hold."""
        words = frozenset(self.sentence.said)
        total = self._weight(words)
        if not total or not self.near:
            return [0.0, 0.0]
        held: dict[int, set[str]] = {}
        for other in self.evidence.sentences:
            held.setdefault(other.source, set()).update(other.said)
        best = max(self._weight(words & found) for found in held.values())
        return [1 - self._weight(words & set(self.near.said)) / total, 1 - best / total]

    def _unordered(self) -> list[float]:
        """The share of tokens that do not align, and of neighbours that no source has near."""
        said = self.sentence.said
        if not said or not self.near:
            return [0.0, 0.0]
        pairs = list(itertools.pairwise(said))
        unpaired = sum(pair not in self.evidence.pairs for pair in pairs)
        return [1 - len(self.pairs) / len(said), unpaired / len(pairs) if pairs else 0.0]

    def _swapped(self) -> float:
        """How much better the words around a claim suit another claim of its kind (0..1)."""
        worst = 0.0
        for place, token in enumerate(self.sentence.tokens):
            if token.claim is None:
                continue
            around = self.sentence.contexts[place]
            own, other = 0.0, 0.0
            for rival in self.evidence.stated.get(token.kind, ()):
                likeness = _likeness(around, rival.context)
                if rival.claim.keys & token.claim.keys:
                    own = max(own, likeness)
                else:
                    other = max(other, likeness)
            worst = max(worst, other - own if own or other else 0.0)
        return worst

    def _misplaced(self) -> float:
        """How much the words beside a claim stand beside another of its kind in the sources, and
        not beside it (0..1)."""
        worst = 0.0
        for token in self.sentence.tokens:
            if token.claim is None:
                continue
            own: set[str] = set()
            other: set[str] = set()
            for rival in self.evidence.stated.get(token.kind, ()):
                (own if rival.claim.keys & token.claim.keys else other).update(rival.segment)
            beside = self.sentence.segments[token.segment] - {token.text}
            against = self._weight(beside & (other - own))
            speaks = self._weight(beside & (own - other))
            if own and other:
                worst = max(worst, (against - speaks) / (0.5 + against + speaks))
        return worst

    def _differing(self) -> list[float]:
        """Aligned claims that state something else, and new words where others stood."""
        if not self.near:
            return [0.0, 0.0]
        disagreeing = 0
        for mine, theirs in self.pairs:
            one, other = self.sentence.tokens[mine].claim, self.near.tokens[theirs].claim
            disagreeing += bool(one and other and not one.keys & other.keys)
        return [min(2, disagreeing) / 2, min(2.0, self._replaced()) / 2]

    def _replaced(self) -> float:
        """The weight of new words that stand between aligned ones in place of others."""
        total = 0.0
        ends = [
            (-1, -1),
            *self.pairs,
            (len(self.sentence.said), len(self.near.said) if self.near else 0),
        ]
        for (mine, theirs), (my_next, their_next) in itertools.pairwise(ends):
            gap = self.sentence.tokens[mine + 1 : my_next]
            if 0 < len(gap) <= 2 and 0 < their_next - theirs - 1 <= 3:
                total += sum(
                    self.novelty(t.text) * self.rarity.get(t.text, 1.0)
                    for t in gap
                    if t.claim is None
                )
        return total

    def _edited(self) -> list[float]:
        """What a copy turns by a small word: of each group of `_LIMITS`, words lost or added.

        Weighed by how much of the sentence is a copy; 0 where it is none. A denial is lost only
        from between words that are kept, not with a part that is left out.
        """
        if not self.near or not self.sentence.every:
            return [0.0] * 8
        mine, theirs = self.sentence.every, self.near.every
        pairs = _common(mine, theirs)
        added = Counter(mine) - Counter(mine[i] for i, _ in pairs)
        kept = [j for _, j in pairs]
        gone = Counter(_touched(theirs, kept)) - Counter(theirs[j] for j in kept)
        close = Counter(_between(theirs, kept))
        _cancel_without(added, gone, close)
        nots = sum((added - gone)[w] + (close - added)[w] for w in _NOTS)
        opposed = any(opposites(stem(w)) & {stem(o) for o in close - added} for w in added - gone)
        groups = [float(bool(nots % 2) != opposed), float(opposed)]
        groups += [float(any((gone - added)[w] for w in group)) for group in _LIMITS[:-1]]
        groups.append(float(any((close - added)[w] for w in _LIMITS[-1])))
        groups.append(float(any((added - gone)[w] for group in _LIMITS for w in group)))
        groups.append(float(any((added - gone)[w] or (close - added)[w] for w in _ALL)))
        copied = min(len(pairs) / len(mine), len(self.pairs) / max(1, len(self.sentence.said)))
        return [copied * found for found in groups]

    def _bounds(self) -> list[float]:
        """Numbers said to be the most that are the least, such that lost theirs, and numbers
        that became the least."""
        turned = lost = added = 0
        for claim, bound in self.sentence.bounds:
            same = self.evidence.bounds_of(claim)
            if same:
                turned += bool(bound) and bound not in same and "" not in same
                lost += not bound and "" not in same
                added += bound == "low" and bound not in same
        return [min(2, turned) / 2, min(2, lost) / 2, min(2, added) / 2]

    def _lost_inside(self) -> float:
        """The weight of source words left out between aligned ones, over that of all."""
        if not self.near or len(self.pairs) < 2:
            return 0.0
        lost = 0.0
        for (_, one), (_, other) in zip(self.pairs, self.pairs[1:], strict=False):
            lost += self._weight(frozenset(self.near.said[one + 1 : other]))
        return lost / max(1.0, self._weight(frozenset(self.near.said)))


def _likeness(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    total = sum(one.values())
    if not total:
        return 0.0
    return sum(min(w, other[t]) for t, w in one.items() if t in other) / total


def _aligned(one: Sentence, other: Sentence) -> list[tuple[int, int]]:
    """Places of tokens that correspond in order, claims of a kind being alike."""
    return _common([t.kind for t in one.tokens], [t.kind for t in other.tokens])


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """The longest common subsequence as places in both."""
    longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        row, below, said = longest[i], longest[i + 1], a[i]
        for j in range(len(b) - 1, -1, -1):
            if said == b[j]:
                row[j] = below[j + 1] + 1
            else:
                row[j] = below[j] if below[j] >= row[j + 1] else row[j + 1]
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _between(words: Sequence[str], places: Sequence[int]) -> list[str]:
    """The words of short gaps between aligned ones."""
    return [
        word
        for one, other in itertools.pairwise(places)
        if other - one - 1 <= _GAP
        for word in words[one + 1 : other]
    ]


def _cancel_without(added: Counter[str], gone: Counter[str], close: Counter[str]) -> None:
    """Take out "without" where a "no" stands for it, and the other way round."""
    for one, others in ((added, (gone, close)), (gone, (added,)), (close, (added,))):
        for other in others:
            denial = next((word for word in _NOTS if other[word]), None)
            if one["without"] and denial:
                del one["without"]
                other.subtract([denial])


def _touched(words: Sequence[str], places: Sequence[int]) -> list[str]:
    """The words from the first to the last aligned one, on to the next comma on either side, and
    the limiting word that opens what stands beyond it."""
    if not places:
        return []
    first, last = places[0], places[-1]
    while first > 0 and words[first - 1] != ",":
        first -= 1
    while last + 1 < len(words) and words[last + 1] != ",":
        last += 1
    beyond = [word for word in words[last + 2 : last + 4] if word in _OPENERS]
    before = words[: max(0, first - 1)]
    start = len(before) - list(reversed(before)).index(",") if "," in before else 0
    return [
        *(w for w in before[start : start + 1] if w in _OPENERS),
        *words[first : last + 1],
        *beyond,
    ]

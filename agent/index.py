"""The search index of a bot: every wording and answer, as words and as vectors.

Builds, saves, loads, and measures how a question relates to each candidate entry. What those
measurements mean is the router's business.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .classifier import REST, TextClassifier
from .encoder import Encoder, Vectors
from .errors import ArtifactError
from .head import ClassHead, HeadScores
from .lexical import LexicalIndex
from .neighbours import EXACT, Neighbours
from .out_of_scope import OutOfScope
from .progress import track
from .spelling import Speller
from .types import Entry

__all__ = ["FEATURES", "Candidate", "Index", "entry_from_json", "entry_to_json"]

FEATURES = (
    "cosine",
    "second_cosine",
    "answer_cosine",
    "bm25",
    "covered",
    "margin",
    "head",
    "head_margin",
)
CANDIDATES = 12
_CHUNK = 2048
_SURE = 12.0
_NEVER = date.max.toordinal()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry measured against a question; `features` follow `FEATURES`."""

    entry: int
    features: NDArray[np.float64]
    matched: str


@dataclass(slots=True)
class Index:
    """Entries with the vectors of their texts; those of entry n are `start[n]` to `start[n + 1]`.

    An entry's texts are its wordings, and last its question and answer together: a question in
    other words is often nearer to what is said than to how it was asked. `head` is there where
    entries have many wordings.
    """

    entries: tuple[Entry, ...]
    encoder: Encoder
    vectors: Vectors
    start: NDArray[np.int64]
    texts: tuple[str, ...]
    lexical: LexicalIndex
    speller: Speller
    neighbours: Neighbours
    head: ClassHead | None
    place: dict[str, int]
    _until: NDArray[np.int64]
    classifier: TextClassifier | None = None

    @classmethod
    def build(
        cls,
        entries: Sequence[Entry],
        encoder: Encoder,
        known: Mapping[str, NDArray[np.float32]] | None = None,
        strange: OutOfScope | None = None,
    ) -> "Index":
        """Embed every wording and answer; texts found in `known` are not embedded again.

        With questions that are `strange` to it, a class head is fitted where entries have enough
        wordings.
        """
        texts, start = _texts(entries)
        vectors = _embedded(texts, encoder, known or {})
        neighbours = Neighbours.build(vectors)
        index = cls._assemble(entries, encoder, vectors, texts, start, neighbours, None)
        if strange is not None:
            index.head = ClassHead.fit(*index.wordings(), strange.vectors)
        return index

    @classmethod
    def _assemble(
        cls,
        entries: Sequence[Entry],
        encoder: Encoder,
        vectors: Vectors,
        texts: Sequence[str],
        start: NDArray[np.int64],
        neighbours: Neighbours,
        head: ClassHead | None,
    ) -> "Index":
        until = [e.valid_until.toordinal() if e.valid_until else _NEVER for e in entries]
        return cls(
            tuple(entries),
            encoder,
            vectors,
            start,
            tuple(texts),
            LexicalIndex.build(texts),
            Speller.build(texts, encoder.is_word),
            neighbours,
            head,
            {entry.id: n for n, entry in enumerate(entries)},
            np.array(until, np.int64),
        )

    @property
    def owner(self) -> NDArray[np.int64]:
        """The entry of every text."""
        return np.repeat(np.arange(len(self.entries)), np.diff(self.start))

    @property
    def is_answer(self) -> NDArray[np.bool_]:
        """Whether a text is an entry's question and answer together."""
        told = np.zeros(len(self.texts), bool)
        told[self.start[1:] - 1] = True
        return told

    def wordings(self) -> tuple[Vectors, NDArray[np.int64]]:
        """Vectors of all wordings, without answers, and their entries."""
        asked = ~self.is_answer
        return np.asarray(self.vectors[asked], np.float32), self.owner[asked]

    def known_vectors(self) -> dict[str, NDArray[np.float32]]:
        """Vectors by text, to hand to the next build."""
        return dict(zip(self.texts, self.vectors, strict=True))

    def save(self, folder: Path) -> None:
        """Write entries.jsonl, vectors.npy and what was learned from them."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "entries.jsonl").open("w", encoding="utf-8") as file:
            for entry in self.entries:
                file.write(json.dumps(entry_to_json(entry), ensure_ascii=False) + "\n")
        np.save(folder / "vectors.npy", self.vectors, allow_pickle=False)
        self.neighbours.save(folder)
        if self.head is not None:
            self.head.save(folder / "head.npz")

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> "Index":
        """Read what `save` wrote.

        Raises:
            ArtifactError: files are missing or do not belong together.
        """
        try:
            with (folder / "entries.jsonl").open(encoding="utf-8") as file:
                entries = [entry_from_json(json.loads(line)) for line in file]
            many = sum(len(entry.questions) + 1 for entry in entries) > EXACT
            vectors = np.load(
                folder / "vectors.npy", mmap_mode="r" if many else None, allow_pickle=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder} is not a search index: {error}") from None
        texts, start = _texts(entries)
        if vectors.shape != (len(texts), encoder.dimensions):
            raise ArtifactError(f"{folder}: vectors and entries do not belong together; build anew")
        head = folder / "head.npz"
        return cls._assemble(
            entries,
            encoder,
            vectors,
            texts,
            start,
            Neighbours.load(folder, vectors),
            ClassHead.load(head) if head.exists() else None,
        )

    def candidates(
        self,
        question: str,
        vector: NDArray[np.float32],
        *,
        today: date,
        hidden: int | None = None,
        absent: int | None = None,
        head: HeadScores | None = None,
    ) -> list[Candidate]:
        """The likeliest entries for a question, measured; nearest first.

        `hidden` leaves out one text and `absent` one entry, for calibration on own questions;
        `head` are the scores of a class head that did not see the question.
        """
        if head is None and self.head is not None:
            head = self.head.scores(vector)
        head = self._classified(question, head)
        dense, lexical = self._dense(vector, hidden), self._lexical(question, hidden)
        gone = self._until < today.toordinal()
        if absent is not None:
            gone[absent] = True
        dense[gone], lexical[gone] = -2.0, -1.0
        chosen = {*_highest(dense, CANDIDATES), *_highest(lexical, CANDIDATES // 2)}
        if head is not None:
            chosen.update(head.likeliest(CANDIDATES // 3))
        found = sorted((n for n in chosen if not gone[n]), key=lambda n: (-float(dense[n]), n))
        covered = self.lexical.coverage(question)
        measure = _Measure(self, covered, vector, hidden, absent, head)
        best = [float(dense[n]) for n in found[:2]]
        return [
            measure.candidate(n, float(lexical[n]), best[place == 0] if len(best) > 1 else 0.0)
            for place, n in enumerate(found)
        ]

    def _classified(self, question: str, head: HeadScores | None) -> HeadScores | None:
        """The scores of the class head with the classifier's, where there is one."""
        if self.classifier is None:
            return head
        told = dict(
            zip(
                self.classifier.labels,
                map(float, self.classifier.log_probabilities([question])[0]),
                strict=True,
            )
        )
        rest = told.pop(REST, -_SURE)
        own = HeadScores({self.place[i]: v for i, v in told.items() if i in self.place}, rest)
        return own if head is None else own.mean(head)

    def _dense(self, vector: NDArray[np.float32], hidden: int | None) -> Vectors:
        """The best cosine of every entry; -1 where no text was near."""
        places, cosine = self.neighbours.search(vector)
        if len(places) == len(self.texts):
            if hidden is not None:
                cosine[hidden] = -1.0
            return _best(cosine, self.start)
        best = np.full(len(self.entries), -1.0, np.float32)
        kept = places != (-1 if hidden is None else hidden)
        owner = np.searchsorted(self.start, places[kept], side="right") - 1
        np.maximum.at(best, owner, cosine[kept])
        return best

    def _lexical(self, question: str, hidden: int | None) -> Vectors:
        scores = self.lexical.scores(question)
        if hidden is not None:
            scores[hidden] = 0.0
        return _best(scores, self.start)


@dataclass(frozen=True, slots=True)
class _Measure:
    """Measures entries against one question, of which texts hold the share `covered`."""

    index: Index
    covered: Callable[[Sequence[int]], float]
    vector: NDArray[np.float32]
    hidden: int | None
    absent: int | None
    head: HeadScores | None

    def candidate(self, number: int, bm25: float, rival: float) -> Candidate:
        first, last = (int(n) for n in self.index.start[number : number + 2])
        cosine = np.asarray(self.index.vectors[first:last], np.float32) @ self.vector
        wordings = [n for n in range(first, last - 1) if n != self.hidden]
        nearest = sorted(wordings, key=lambda n: -float(cosine[n - first]))[:2]
        own = [float(cosine[n - first]) for n in nearest] or [0.0]
        answer = float(cosine[-1])
        covered = self.covered([*wordings, last - 1])
        margin = max(own[0], answer) - rival
        told = self.head.features(number, self.absent) if self.head else (0.0, 0.0)
        features = np.array([own[0], own[-1], answer, bm25, covered, margin, *told])
        return Candidate(number, features, self.index.texts[nearest[0]] if nearest else "")


def _best(values: Vectors, start: NDArray[np.int64]) -> Vectors:
    """The highest value of each entry's texts."""
    return np.maximum.reduceat(values, start[:-1]) if len(start) > 1 else values[:0]


def _highest(values: Vectors, count: int) -> list[int]:
    """Places of the highest values."""
    if len(values) <= count:
        return list(range(len(values)))
    return [int(n) for n in np.argpartition(-values, count)[:count]]


def _embedded(
    texts: Sequence[str], encoder: Encoder, known: Mapping[str, NDArray[np.float32]]
) -> Vectors:
    """The vectors of texts, those that are not known made in chunks under a bar.

    Many vectors are kept in half precision: they are read from their file when they serve.
    """
    kind = np.float16 if len(texts) > EXACT else np.float32
    out = np.zeros((len(texts), encoder.dimensions), kind)
    fresh: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        if text in known:
            out[place] = known[text]
        else:
            fresh[text].append(place)
    waiting = sorted(fresh)
    for begin in track(range(0, len(waiting), _CHUNK), "embedding"):
        part = waiting[begin : begin + _CHUNK]
        for text, vector in zip(part, encoder.embed(part), strict=True):
            out[fresh[text]] = vector
    return out


def _texts(entries: Sequence[Entry]) -> tuple[list[str], NDArray[np.int64]]:
    """All texts, entry by entry, and where each entry's begin."""
    texts: list[str] = []
    start = [0]
    for entry in entries:
        texts.extend((*entry.questions, f"{entry.question} {entry.answer}"))
        start.append(len(texts))
    return texts, np.array(start, np.int64)


def entry_to_json(entry: Entry) -> dict[str, object]:
    """An entry as a JSON object, in the order DESIGN names the columns."""
    return {
        "id": entry.id,
        "question": entry.question,
        "answer": entry.answer,
        "variants": list(entry.variants),
        "category": entry.category,
        "language": entry.language,
        "url": entry.url,
        "valid_until": entry.valid_until.isoformat() if entry.valid_until else None,
        "verbatim": entry.verbatim,
        "metadata": dict(entry.metadata),
        "source": entry.source,
    }


def entry_from_json(data: dict[str, object]) -> Entry:
    """The entry that `entry_to_json` wrote."""
    until = data.get("valid_until")
    metadata = data.get("metadata") or {}
    variants = data.get("variants") or []
    if not isinstance(metadata, dict) or not isinstance(variants, list):
        raise ValueError("metadata must be an object and variants a list")
    return Entry(
        id=str(data["id"]),
        question=str(data["question"]),
        answer=str(data["answer"]),
        variants=tuple(str(v) for v in variants),
        category=str(data.get("category") or ""),
        language=str(data.get("language") or "en"),
        url=str(data.get("url") or ""),
        valid_until=date.fromisoformat(str(until)) if until else None,
        verbatim=bool(data.get("verbatim")),
        metadata={str(k): str(v) for k, v in metadata.items()},
        source=str(data.get("source") or ""),
    )

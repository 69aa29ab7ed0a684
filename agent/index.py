"""The search index of a bot: every wording and answer, as words and as vectors.

Builds, saves, loads, and measures how a question relates to each candidate entry. What those
measurements mean is the router's business.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .encoder import Encoder, Vectors
from .errors import ArtifactError
from .lexical import LexicalIndex
from .spelling import Speller
from .types import Entry

__all__ = ["FEATURES", "Candidate", "Index", "entry_from_json", "entry_to_json"]

FEATURES = ("cosine", "second_cosine", "answer_cosine", "bm25", "covered", "margin")
CANDIDATES = 12


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry measured against a question; `features` follow `FEATURES`."""

    entry: int
    features: NDArray[np.float64]
    matched: str


@dataclass(slots=True)
class Index:
    """Entries with the vectors of their texts; `owner[i]` is the entry of text i.

    An entry's texts are its wordings, and its question and answer together: a question in other
    words is often nearer to what is said than to how it was asked."""

    entries: tuple[Entry, ...]
    encoder: Encoder
    vectors: Vectors
    owner: NDArray[np.int64]
    is_answer: NDArray[np.bool_]
    texts: tuple[str, ...]
    lexical: LexicalIndex
    speller: Speller
    _of_entry: dict[int, list[int]]

    @classmethod
    def build(
        cls,
        entries: Sequence[Entry],
        encoder: Encoder,
        known: dict[str, NDArray[np.float32]] | None = None,
    ) -> "Index":
        """Embed every wording and answer; texts found in `known` are not embedded again."""
        texts, owner, is_answer = _texts(entries)
        known = known or {}
        fresh = sorted({text for text in texts if text not in known})
        made = dict(zip(fresh, encoder.embed(fresh), strict=True))
        vectors = np.array([known[t] if t in known else made[t] for t in texts], np.float32)
        return cls._assemble(
            entries,
            encoder,
            vectors.reshape(len(texts), encoder.dimensions),
            texts,
            owner,
            is_answer,
        )

    @classmethod
    def _assemble(
        cls,
        entries: Sequence[Entry],
        encoder: Encoder,
        vectors: Vectors,
        texts: list[str],
        owner: list[int],
        is_answer: list[bool],
    ) -> "Index":
        of_entry: dict[int, list[int]] = defaultdict(list)
        for place, number in enumerate(owner):
            of_entry[number].append(place)
        return cls(
            tuple(entries),
            encoder,
            vectors,
            np.array(owner, np.int64),
            np.array(is_answer, bool),
            tuple(texts),
            LexicalIndex.build(texts),
            Speller.build(texts, encoder.is_word),
            of_entry,
        )

    def known_vectors(self) -> dict[str, NDArray[np.float32]]:
        """Vectors by text, to hand to the next build."""
        return dict(zip(self.texts, self.vectors, strict=True))

    def save(self, folder: Path) -> None:
        """Write entries.jsonl and vectors.npy."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "entries.jsonl").open("w", encoding="utf-8") as file:
            for entry in self.entries:
                file.write(json.dumps(entry_to_json(entry), ensure_ascii=False) + "\n")
        np.save(folder / "vectors.npy", self.vectors, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> "Index":
        """Read what `save` wrote.

        Raises:
            ArtifactError: files are missing or do not belong together.
        """
        try:
            lines = (folder / "entries.jsonl").read_text(encoding="utf-8").splitlines()
            entries = [entry_from_json(json.loads(line)) for line in lines]
            vectors = np.load(folder / "vectors.npy", allow_pickle=False)
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder} is not a search index: {error}") from None
        texts, owner, is_answer = _texts(entries)
        if vectors.shape != (len(texts), encoder.dimensions):
            raise ArtifactError(f"{folder}: vectors and entries do not belong together; build anew")
        return cls._assemble(entries, encoder, vectors, texts, owner, is_answer)

    def candidates(
        self,
        question: str,
        vector: NDArray[np.float32],
        *,
        today: date,
        hidden: int | None = None,
        absent: int | None = None,
    ) -> list[Candidate]:
        """The likeliest entries for a question, measured; unordered.

        `hidden` leaves out one text and `absent` one entry, for calibration on own questions.
        """
        cosine = self.vectors @ vector
        bm25 = self.lexical.scores(question)
        if hidden is not None:
            cosine[hidden], bm25[hidden] = -1.0, 0.0
        best = np.full(len(self.entries), -1.0, np.float32)
        np.maximum.at(best, self.owner, cosine)
        lexical = np.zeros(len(self.entries), np.float32)
        np.maximum.at(lexical, self.owner, bm25)
        for number, entry in enumerate(self.entries):
            if number == absent or entry.expired(today):
                best[number], lexical[number] = -2.0, -1.0
        chosen = set(np.argsort(-best)[:CANDIDATES]) | set(np.argsort(-lexical)[: CANDIDATES // 2])
        ranked = sorted((int(n) for n in chosen if best[n] > -2.0), key=lambda n: -float(best[n]))
        return [
            self._measure(
                question,
                number,
                cosine,
                float(lexical[number]),
                float(best[ranked[1] if number == ranked[0] and len(ranked) > 1 else ranked[0]])
                if len(ranked) > 1
                else 0.0,
                hidden,
            )
            for number in ranked
        ]

    def _measure(
        self,
        question: str,
        number: int,
        cosine: Vectors,
        bm25: float,
        rival: float,
        hidden: int | None,
    ) -> Candidate:
        places = [place for place in self._of_entry[number] if place != hidden]
        wordings = [place for place in places if not self.is_answer[place]]
        nearest = sorted(wordings, key=lambda place: -float(cosine[place]))
        first = float(cosine[nearest[0]]) if nearest else 0.0
        second = float(cosine[nearest[1]]) if len(nearest) > 1 else first
        answer = max((float(cosine[p]) for p in places if self.is_answer[p]), default=0.0)
        covered = self.lexical.covered(question, places)
        features = np.array([first, second, answer, bm25, covered, max(first, answer) - rival])
        return Candidate(number, features, self.texts[nearest[0]] if nearest else "")


def _texts(entries: Sequence[Entry]) -> tuple[list[str], list[int], list[bool]]:
    texts: list[str] = []
    owner: list[int] = []
    is_answer: list[bool] = []
    for number, entry in enumerate(entries):
        whole = f"{entry.question} {entry.answer}"
        for text, answer in [*((q, False) for q in entry.questions), (whole, True)]:
            texts.append(text)
            owner.append(number)
            is_answer.append(answer)
    return texts, owner, is_answer


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

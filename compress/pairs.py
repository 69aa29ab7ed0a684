"""Training groups of the reranker: a question with the entries a search would find for it.

Bots are made of written topics and of public FAQs and intents; candidates are the nearest
entries by a plain encoder, so that what the model must tell apart is what search mixes up.
Knows nothing of tokens or of training.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..agent.encoder import Encoder
from ..agent.errors import InputError
from .augment import noisy
from .corpora import Told, Topic, business_name, filled, tell
from .public import businesses

__all__ = ["Group", "faq_groups", "intent_groups", "load_groups", "save_groups", "topic_groups"]

CANDIDATES = 4
ALIKE = 0.8
_NEAR, _FOLLOW, _LEAD, _STRANGE, _ASIDE = 0.75, 0.5, 0.8, 0.12, 0.15


@dataclass(frozen=True, slots=True)
class Group:
    """A question, the customer's turn before, and (wording, answer) candidates.

    `right` is the place of the candidate that answers, -1 where none does.
    """

    question: str
    before: str
    entries: tuple[tuple[str, str], ...]
    right: int
    source: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question to a bot: `right` is its entry, or the one it only seems to be about (`about`)."""

    text: str
    before: str = ""
    right: int = -1
    about: int = -1


def topic_groups(
    topics: Sequence[Topic], encoder: Encoder, count: int, seed: int
) -> Iterator[Group]:
    """At least `count` groups from bots of 15 to 35 topics, most of one kind of business."""
    rng = random.Random(seed)
    made = 0
    while made < count:
        domain = rng.choice(topics).domain
        own = [topic for topic in topics if topic.domain == domain]
        others = [topic for topic in topics if topic.domain != domain]
        led = {name for topic in own for name, _ in topic.leads}
        for pool in (own, others):
            rng.shuffle(pool)
        linked = [topic for topic in others if topic.name in led]
        chosen = {topic.name: topic for topic in (*own[:24], *linked[:10], *others)}
        bot = list(chosen.values())[: rng.choice((15, 25, 35))]
        strange = [topic for topic in others if topic not in bot]
        for group in _bot_groups(bot, strange, encoder, rng):
            yield group
            made += 1


def _bot_groups(
    bot: Sequence[Topic], strange: Sequence[Topic], encoder: Encoder, rng: random.Random
) -> list[Group]:
    business = business_name(rng)
    told = [tell(topic, business, rng) for topic in bot]
    search = _Search(encoder, [(t.entry.question, t.entry.answer) for t in told])
    place = {topic.name: number for number, topic in enumerate(bot)}
    asked: list[_Asked] = []
    for number in range(len(told)):
        asked.extend(_asked(number, told, place, strange, rng))
    found = search.nearest([f"{a.before} {a.text}".strip() for a in asked])
    groups = []
    for a, order in zip(asked, found, strict=True):
        chosen = search.choose(order, a.right, a.about, rng)
        entries = tuple(_as_met(told[n], a.text, rng) for n in chosen)
        groups.append(Group(a.text, a.before, entries, 0 if a.right >= 0 else -1, "topics"))
    return groups


def _asked(
    number: int,
    told: Sequence[Told],
    place: Mapping[str, int],
    strange: Sequence[Topic],
    rng: random.Random,
) -> Iterator[_Asked]:
    """Rewordings of one topic, follow-ups to it and from it to others, near misses, strangers."""
    one = told[number]
    topic = one.topic

    def turn() -> str:
        return noisy(rng.choice((*one.asked, one.entry.question)), rng)

    for text in rng.sample(one.asked, k=min(2, len(one.asked))):
        other = rng.choice(told)
        aside = rng.choice(other.asked or (other.entry.question,))
        before = noisy(aside, rng) if rng.random() < _ASIDE else ""
        yield _Asked(noisy(text, rng), before, number)
    if topic.followups and rng.random() < _FOLLOW:
        yield _Asked(noisy(rng.choice(topic.followups), rng), turn(), number)
    leads = [(name, text) for name, text in topic.leads if name in place]
    if leads and rng.random() < _LEAD:
        name, text = rng.choice(leads)
        yield _Asked(noisy(text, rng), turn(), place[name])
    if topic.near and rng.random() < _NEAR:
        text = filled(rng.choice(topic.near), topic.slots, one.values, rng)
        before = turn() if rng.random() < _ASIDE else ""
        yield _Asked(noisy(text, rng), before, -1, number)
    if strange and rng.random() < _STRANGE:
        other_topic = rng.choice(strange)
        values = {"business": one.values["business"]}
        text = filled(rng.choice(other_topic.questions), other_topic.slots, values, rng)
        yield _Asked(noisy(text, rng))


def _as_met(told: Told, question: str, rng: random.Random) -> tuple[str, str]:
    """An entry under its own question or, now and then, under another wording of it."""
    wording = told.entry.question
    if told.asked and rng.random() < 0.3:
        other = noisy(rng.choice(told.asked), rng)
        wording = other if other.lower() != question.lower() else wording
    return wording, told.entry.answer


class _Search:
    """The nearest entries by a plain encoder, as question and as question with answer."""

    def __init__(self, encoder: Encoder, entries: Sequence[tuple[str, str]]) -> None:
        self._encoder = encoder
        self._titles = encoder.embed([question for question, _ in entries])
        self._whole = encoder.embed([f"{question} {answer}" for question, answer in entries])
        self._alike: NDArray[np.bool_] = self._titles @ self._titles.T > ALIKE

    def nearest(self, questions: Sequence[str]) -> list[list[int]]:
        """For each question the places of all entries, nearest first."""
        vectors = self._encoder.embed(questions)
        likeness = np.maximum(vectors @ self._titles.T, vectors @ self._whole.T)
        return [[int(n) for n in np.argsort(-row)] for row in likeness]

    def choose(self, order: Sequence[int], right: int, about: int, rng: random.Random) -> list[int]:
        """`CANDIDATES` places: the right one first, then the nearest that are not like it."""
        rivals = [n for n in order if n != right and (right < 0 or not self._alike[right, n])]
        rivals = rivals[: CANDIDATES + 1]
        if rng.random() < 0.3 and len(rivals) > CANDIDATES:
            rivals.pop(rng.randrange(len(rivals)))
        if right >= 0:
            return [right, *rivals[: CANDIDATES - 1]]
        if about >= 0 and about not in rivals[:CANDIDATES]:
            return [about, *rivals[: CANDIDATES - 1]]
        return rivals[:CANDIDATES]


def faq_groups(
    path: Path, held_out: Sequence[str], encoder: Encoder, count: int, seed: int
) -> Iterator[Group]:
    """At least `count` groups from the DSTC9 FAQ, asked in the words of other businesses."""
    rng = random.Random(seed)
    shops = businesses(path, set(held_out))
    titles = sorted({entry.question for entries in shops.values() for entry in entries})
    vectors = encoder.embed(titles)
    place = {title: number for number, title in enumerate(titles)}
    likeness = vectors @ vectors.T
    names, made = sorted(shops), 0
    while made < count:
        entries = shops[rng.choice(names)]
        search = _Search(encoder, [(e.question, e.answer) for e in entries])
        own = np.array([place[e.question] for e in entries])
        asked = []
        for number, entry in enumerate(entries):
            near = likeness[place[entry.question]]
            others = np.flatnonzero((near > 0.72) & (near < 0.97))
            worded = [n for n in others if int(np.argmax(likeness[n, own])) == number]
            if worded:
                aside = rng.choice(entries).question if rng.random() < _ASIDE else ""
                asked.append(_Asked(noisy(titles[rng.choice(worded)], rng), aside, number))
        for a, order in zip(asked, search.nearest([a.text for a in asked]), strict=True):
            chosen = search.choose(order, a.right, a.about, rng)
            met = tuple((entries[n].question, entries[n].answer) for n in chosen)
            yield Group(a.text, a.before, met, 0, "dstc9")
            made += 1


def intent_groups(
    utterances: Mapping[str, Sequence[str]],
    answers: Mapping[str, Sequence[str]],
    encoder: Encoder,
    count: int,
    seed: int,
    source: str,
) -> Iterator[Group]:
    """`count` groups where two utterances of an intent are question and entry; an eighth with
    nothing but neighbouring intents."""
    rng = random.Random(seed)
    names = sorted(utterances)
    centres = np.array([encoder.embed(list(utterances[name])[:40]).mean(0) for name in names])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    likeness = centres @ centres.T

    def met(number: int, wording: str) -> tuple[str, str]:
        known = answers.get(names[number])
        return wording, rng.choice(list(known)) if known else ""

    for _ in range(count):
        own = rng.randrange(len(names))
        question, wording = rng.sample(list(utterances[names[own]]), 2)
        near = [int(n) for n in np.argsort(-likeness[own]) if n != own][:6]
        rivals = rng.sample(near, k=min(CANDIDATES, len(near)))
        others = [met(n, rng.choice(list(utterances[names[n]]))) for n in rivals]
        absent = rng.random() < 0.12
        entries = others if absent else [met(own, wording), *others[: CANDIDATES - 1]]
        yield Group(noisy(question, rng), "", tuple(entries), -1 if absent else 0, source)


def save_groups(groups: Sequence[Group], path: Path) -> None:
    """Write groups as JSONL."""
    lines = (json.dumps(asdict(group), ensure_ascii=False) for group in groups)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def load_groups(path: Path) -> list[Group]:
    """Read what `save_groups` wrote.

    Raises:
        InputError: a line is not such a group.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            data = json.loads(line)
            entries = tuple((str(w), str(a)) for w, a in data.pop("entries"))
            found.append(Group(entries=entries, **data))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(path, f"not a training group: {error}", line=number) from None
    return found

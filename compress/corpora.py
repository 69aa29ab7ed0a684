"""Training rows for `grounded`: written topics, public FAQs and public intents, reworded.

Each source yields rows of the trade: answer from the entry, keep the facts, join two entries,
use the conversation, refuse a near miss. Questions are never an entry's own. Knows nothing of
tokens or of training.
"""

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..agent.encoder import Encoder
from ..agent.prompt import REFUSAL
from ..agent.types import Entry, Turn
from .augment import noisy
from .dataset import Question, Row
from .public import businesses

__all__ = [
    "Told",
    "Topic",
    "business_name",
    "faq_rows",
    "filled",
    "intent_rows",
    "load_topics",
    "split_topics",
    "target",
    "tell",
    "told_entry",
    "topic_rows",
]

_OPEN = re.compile(r"^(what|how|when|where|which|who|why|until)\b", re.IGNORECASE)
_YES_NO = re.compile(r"^(yes|no)\s*[,.;:!]\s*", re.IGNORECASE)
_BUSINESS_FIRST = (
    "Alder",
    "Beacon",
    "Castle",
    "Dunmore",
    "Eastgate",
    "Fern",
    "Gloucester",
    "Harbour",
    "Iris",
    "Juniper",
    "Kingsway",
    "Lakeside",
    "Maple",
    "Northfield",
    "Oakham",
    "Pembroke",
    "Quay",
    "Riverside",
    "Saffron",
    "Tamar",
    "Union",
    "Vale",
    "Willow",
    "York",
    "Zephyr",
)
_BUSINESS_LAST = ("House", "& Co", "Group", "Lane", "Point", "Works", "Hall", "Corner", "Direct")
_JOINERS = (" and ", ", and also ", "? Also, ", ". And ", "? ", " plus ", "; ")
_DUAL_SHARE, _NEAR_SHARE, _FOLLOW_SHARE, _ABSENT_SHARE = 0.28, 0.5, 0.35, 0.06


@dataclass(frozen=True, slots=True)
class Topic:
    """One subject of a FAQ with rewordings, answers with slots, follow-ups and near misses.

    `leads` are follow-ups that another topic answers, with its name.
    """

    name: str
    domain: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    followups: tuple[str, ...]
    near: tuple[str, ...]
    leads: tuple[tuple[str, str], ...] = ()


def load_topics(pattern: str = "topics_*.jsonl") -> list[Topic]:
    """The topics that ship with the package, from the files that match `pattern`."""
    topics = []
    for file in sorted(files(__package__).iterdir(), key=lambda item: item.name):
        if not fnmatch(file.name, pattern):
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            data: dict[str, Any] = json.loads(line)
            topics.append(
                Topic(
                    data["topic"],
                    data["domain"],
                    tuple(data["questions"]),
                    tuple(data["answers"]),
                    {name: tuple(values) for name, values in data["slots"].items()},
                    tuple(data["followups"]),
                    tuple(data["near"]),
                    tuple((lead["to"], lead["text"]) for lead in data["leads"]),
                )
            )
    return topics


def split_topics(topics: Sequence[Topic]) -> tuple[list[Topic], list[Topic]]:
    """Topics to train on, and the eighth (by name) that no adapter sees: for fitting thresholds."""
    held = {t.name for t in topics if hashlib.sha256(t.name.encode()).digest()[0] % 8 == 0}
    return [t for t in topics if t.name not in held], [t for t in topics if t.name in held]


def told_entry(topic: Topic, rng: random.Random) -> tuple[Entry, list[str], list[str]]:
    """A topic as a bot's entry with three variants, the other wordings, and the near misses."""
    told = tell(topic, business_name(rng), rng)
    asked = list(told.asked)
    rng.shuffle(asked)
    near = [filled(text, topic.slots, told.values, rng) for text in topic.near]
    return replace(told.entry, variants=tuple(asked[:3])), asked[3:], near


def target(answers: Sequence[str], question: str) -> str:
    """What the model should write: the curated words, without a yes or no nobody asked for."""
    told = []
    for answer in answers:
        if _OPEN.match(question):
            answer = _YES_NO.sub("", answer)
        told.append(answer[:1].upper() + answer[1:])
    return " ".join(told)


def business_name(rng: random.Random) -> str:
    """A made-up name."""
    return f"{rng.choice(_BUSINESS_FIRST)} {rng.choice(_BUSINESS_LAST)}"


def filled(
    text: str, slots: Mapping[str, tuple[str, ...]], values: dict[str, str], rng: random.Random
) -> str:
    """A template with its slots filled: all from one place of their lists, so currencies agree."""
    place = values.setdefault("", str(rng.randrange(1000)))

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in values:
            values[name] = slots[name][int(place) % len(slots[name])]
        return values[name]

    return re.sub(r"\{(\w+)\}", value, text)


@dataclass(frozen=True, slots=True)
class Told:
    """A topic as one business tells it."""

    topic: Topic
    entry: Entry
    asked: tuple[str, ...]
    values: dict[str, str]


def tell(topic: Topic, business: str, rng: random.Random) -> Told:
    values = {"business": business}
    place = rng.randrange(len(topic.questions))
    answer = filled(rng.choice(topic.answers), topic.slots, values, rng)
    own = filled(topic.questions[place], topic.slots, values, rng)
    others = tuple(
        filled(q, topic.slots, values, rng)
        for number, q in enumerate(topic.questions)
        if number != place
    )
    return Told(topic, Entry(topic.name, own, answer), others, values)


def topic_rows(topics: Sequence[Topic], count: int, seed: int, beside: int = 0) -> Iterator[Row]:
    """`count` rows from written topics, each a business with fresh facts; with `beside` more
    questions of other topics, which the context does not answer."""
    rng, more = random.Random(seed), random.Random(seed)
    by_domain: dict[str, list[Topic]] = defaultdict(list)
    for topic in topics:
        by_domain[topic.domain].append(topic)
    for _ in range(count):
        topic = rng.choice(topics)
        pool = by_domain[topic.domain] if len(by_domain[topic.domain]) > 4 else list(topics)
        others = rng.sample(
            [t for t in pool if t is not topic], k=min(rng.choice((0, 1, 1, 2, 3)), len(pool) - 1)
        )
        business = business_name(rng)
        told = tell(topic, business, rng)
        row = _row(told, [tell(other, business, rng) for other in others], "topics", rng)
        shown = [topic, *others]
        absent = [t for t in pool if t not in shown]
        if len(absent) < beside:  # a small domain, shown almost whole
            absent = [t for t in topics if t not in shown]
        chosen = more.sample(absent, k=min(beside, len(absent)))
        yield _besides(row, [tell(other, business, more) for other in chosen], more)


def _row(
    told: Told,
    others: Sequence[Told],
    source: str,
    rng: random.Random,
    absent: float = _ABSENT_SHARE,
) -> Row:
    """One context with several questions: plain, follow-up, near miss, two at once.

    In the share `absent` the entry that answers is taken away.
    """
    block = rng.random() < 0.5
    if others and rng.random() < absent:
        asked = noisy(rng.choice(told.asked), rng)
        return Row(
            tuple(o.entry for o in others),
            (Question(asked, REFUSAL),),
            told.entry.id,
            source,
            block,
        )
    questions = []
    for text in rng.sample(told.asked, k=min(2, len(told.asked))):
        history = _other_subject(others, rng) if others and rng.random() < 0.1 else ()
        questions.append(Question(noisy(text, rng), target([told.entry.answer], text), history))
    if told.topic.followups and rng.random() < _FOLLOW_SHARE:
        text = rng.choice(told.topic.followups)
        history = (
            Turn("user", noisy(rng.choice((*told.asked, told.entry.question)), rng)),
            Turn("assistant", rng.choice((told.entry.answer, "Yes.", "Let me look that up."))),
        )
        questions.append(Question(noisy(text, rng), target([told.entry.answer], text), history))
    if told.topic.near and rng.random() < _NEAR_SHARE:
        near = filled(rng.choice(told.topic.near), told.topic.slots, told.values, rng)
        questions.append(Question(noisy(near, rng), REFUSAL))
    entries = [told.entry, *(other.entry for other in others)]
    if others and rng.random() < _DUAL_SHARE:
        questions = [_dual(told, others[0], rng), *questions[:1]]
    elif len(entries) > 1 and rng.random() < 0.1:
        entries[0], entries[1] = entries[1], entries[0]
    return Row(tuple(entries), tuple(questions), told.entry.id, source, block)


def _besides(row: Row, absent: Sequence[Told], rng: random.Random) -> Row:
    """The row, also asked what its context does not answer."""
    asked = [Question(noisy(rng.choice(one.asked), rng), REFUSAL) for one in absent]
    return replace(row, questions=(*row.questions, *asked))


def _dual(first: Told, second: Told, rng: random.Random) -> Question:
    a, b = rng.choice(first.asked), rng.choice(second.asked)
    joined = a.rstrip("?. ") + rng.choice(_JOINERS) + b[:1].lower() + b[1:]
    return Question(
        noisy(joined, rng),
        f"{target([first.entry.answer], a)} {target([second.entry.answer], b)}",
    )


def _other_subject(others: Sequence[Told], rng: random.Random) -> tuple[Turn, ...]:
    """A conversation about something else, which must not change the answer."""
    other = rng.choice(others)
    return (
        Turn("user", noisy(rng.choice(other.asked), rng)),
        Turn("assistant", other.entry.answer),
    )


def faq_rows(
    path: Path, held_out: Sequence[str], encoder: Encoder, count: int, seed: int
) -> Iterator[Row]:
    """Rows from the DSTC9 FAQ of businesses, asked in the words of other businesses' entries.

    `held_out` names the businesses (`hotel/16`) that must not be seen.
    """
    rng = random.Random(seed)
    shops = businesses(path, set(held_out))
    titles = sorted({entry.question for entries in shops.values() for entry in entries})
    vectors = encoder.embed(titles)
    place = {title: number for number, title in enumerate(titles)}
    alike = vectors @ vectors.T
    wordings: dict[str, list[str]] = {}
    for title, number in place.items():
        near = np.flatnonzero((alike[number] > 0.72) & (alike[number] < 0.97))
        wordings[title] = [titles[other] for other in near]
    names = sorted(shops)
    for _ in range(count):
        entries = shops[rng.choice(names)]
        entry = rng.choice(entries)
        siblings = sorted(
            (other for other in entries if other is not entry),
            key=lambda other: -alike[place[entry.question], place[other.question]],
        )
        told = _as_told(entry, wordings, rng)
        unlike = [s for s in siblings if alike[place[entry.question], place[s.question]] < 0.6]
        shown = rng.sample(unlike[:8], k=min(rng.choice((0, 1, 2, 3)), len(unlike[:8])))
        yield _row(told, [_as_told(other, wordings, rng) for other in shown], "dstc9", rng)


def _as_told(entry: Entry, wordings: Mapping[str, list[str]], rng: random.Random) -> Told:
    others = wordings[entry.question] or [entry.question]
    asked = tuple(rng.sample(others, k=min(3, len(others))))
    return Told(Topic(entry.id, "", asked, (entry.answer,), {}, (), ()), entry, asked, {})


def intent_rows(
    utterances: Mapping[str, Sequence[str]],
    answers: Mapping[str, Sequence[str]],
    topics: Sequence[Topic],
    count: int,
    seed: int,
    source: str,
) -> Iterator[Row]:
    """Rows where two utterances of an intent are an entry's question and a customer's.

    Intents without an answer of their own borrow one from a topic: the model learns that
    what answers a question is the router's decision.
    """
    rng = random.Random(seed)
    names = sorted(utterances)
    for _ in range(count):
        chosen = rng.sample(names, k=min(rng.choice((1, 2, 3)), len(names)))
        told = []
        for name in chosen:
            own, *asked = rng.sample(list(utterances[name]), k=min(4, len(utterances[name])))
            answer = (
                rng.choice(answers[name])
                if answers.get(name)
                else tell(rng.choice(topics), business_name(rng), rng).entry.answer
            )
            topic = Topic(f"{source}/{name}", "", tuple(asked), (answer,), {}, (), ())
            told.append(Told(topic, Entry(topic.name, own, answer), tuple(asked), {}))
        yield _row(told[0], told[1:], source, rng)


def bot_rows(
    entries: Sequence[Entry],
    topics: Sequence[Topic],
    count: int,
    seed: int,
    *,
    own: float = 0.75,
    beside: int = 0,
) -> Iterator[Row]:
    """Rows from a bot's own FAQ: each entry asked in its other wordings, among its neighbours.

    `own` is their share, if any entry is English; the rest come from written topics, so that the
    trade is not forgotten.
    `beside` more questions of a row are of what it does not hold: other entries, a topic.
    """
    rng, more = random.Random(seed), random.Random(seed)
    told = [
        Told(
            Topic(entry.id, entry.category, (), (entry.answer,), {}, (), ()),
            entry,
            entry.questions,
            {},
        )
        for entry in entries
        if entry.language == "en"
    ]
    asked_of_own = round(count * own) if told else 0
    for number in range(asked_of_own):
        one = told[number % len(told)]
        near = [t for t in told if t is not one and t.entry.category == one.entry.category] or [
            t for t in told if t is not one
        ]
        shown = rng.sample(near, k=min(rng.choice((0, 1, 2, 3)), len(near)))
        title = rng.choice(one.asked)
        asked = tuple(q for q in one.asked if q != title) or (title,)
        entry = Entry(one.entry.id, one.entry.question, one.entry.answer)
        row = _row(Told(one.topic, entry, asked, {}), shown, "bot", rng, absent=0.25)
        strange = [tell(t, business_name(more), more) for t in more.sample(topics, min(1, beside))]
        absent = [t for t in near if t not in shown] or [t for t in told if t is not one]
        chosen = more.sample(absent, k=min(max(0, beside - 1), len(absent)))
        yield _besides(row, [*chosen, *strange], more)
    yield from topic_rows(topics, count - asked_of_own, seed + 1, beside)

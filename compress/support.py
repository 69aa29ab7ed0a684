"""Fits the score of `agent/support.py`: agent/support.json.

    python -m featherdesk.compress.support [GENERATIONS.jsonl]

Answers of our own topics, told by made-up businesses, are reworded by code and by the topics'
other answers, and made wrong in the ways of `corrupt`. GENERATIONS are what models wrote about
the topics (tests/make_wrong_generations.py). Knows nothing of the sample bot.
"""

import hashlib
import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from ..agent.clauses import courteous, sentences, stems
from ..agent.cli import run
from ..agent.evidence import Evidence, sources_of
from ..agent.grounding import missing
from ..agent.lexicon import meaning
from ..agent.progress import track
from ..agent.reading import SENTENCE
from ..agent.sentence import Sentence
from ..agent.support import CUTS, REPLY, Layer, Support, stepped
from ..agent.types import Entry
from .corpora import Topic, business_name, filled, load_topics, tell
from .corrupt import Corruption, corrupted

__all__ = ["Example", "examples", "fit", "rarity_of"]

ALIKE = ("digital", "hospitality", "public", "retail", "service", "shop", "travel")
"""Files of topics whose answers say the same in other words."""

FALSE_ALARMS = 0.03
RIDGE = 1.0
_OPENINGS = ("Yes. ", "Sure. ", "Of course. ", "Good question! ", "Hello! ", "Thanks for asking. ")
_CLOSINGS = (" Hope that helps!", " Let me know if you need anything else.", " Thank you!")
_WORDED = (
    (r"\bcannot\b", "can't"),
    (r"\bdo not\b", "don't"),
    (r"\bis not\b", "isn't"),
    (r"\bwe will\b", "we'll"),
    (r"\byou will\b", "you'll"),
    (r"\bcosts\b", "is"),
    (r"\btakes\b", "needs"),
    (r"\bwithin\b", "in"),
    (r"\be-mail\b", "email"),
    (r"\b2 (?=[a-z])", "two "),
    (r"\b3 (?=[a-z])", "three "),
    (r"\b5 (?=[a-z])", "five "),
    (r"\btwo (?!hundred)(?=[a-z])", "2 "),
    (r"\bfree of charge\b", "free"),
    (r"\bat no cost\b", "for free"),
    (r"\bup to\b", "at most"),
    (r"\bmust\b", "have to"),
    (r"\bwe\b", "our team"),
    (r"\bfrom (\S+) to (\S+)", r"between \1 and \2"),
    (r"(\d)%", r"\1 percent"),
    (r"\bparcels?\b(?!@)", "package"),
)
_ROLES = ("Customer: ", "Agent: ", "Q: ", "Customer Service: ", "Question: ", "Yes.\nCustomer: ")
_VAGUE = (
    "You can find it on our website.",
    "Please contact us.",
    "Yes, you can.",
    "It depends on the order.",
    "Yes, we can help you with that.",
    "You will have to check the terms and conditions.",
    "No, that is not possible.",
    "Please contact our customer service team and they will help you.",
    "We are here to help you with any question you have.",
    "Thank you for your order.",
)
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """A reply with its sources and whether it is wrong; `kind` names how it was made.

    `faulty` is the place of the sentence known to be wrong, -1 where all may be or none is.
    """

    reply: str
    sources: tuple[str, ...]
    question: str
    wrong: bool
    kind: str
    group: str
    faulty: int = -1


def rarity_of(topics: Sequence[Topic]) -> dict[str, float]:
    """How much a stem tells (0..1): its inverse document frequency over topics, of the highest."""
    counts: Counter[str] = Counter()
    for topic in topics:
        text = re.sub(r"\{\w+\}", " ", " ".join((*topic.questions, *topic.answers)))
        counts.update(set(stems(text)))
    top = math.log(1 + len(topics))
    return {
        word: round(math.log((1 + len(topics)) / (1 + count)) / top, 2)
        for word, count in sorted(counts.items())
        if count > 1 and re.fullmatch(r"[a-z'-]+", word)
    }


def examples(topics: Sequence[Topic], seed: int) -> Iterator[Example]:
    """Right and wrong replies about every topic, each among other entries of its business."""
    rng = random.Random(seed)
    by_domain: dict[str, list[Topic]] = defaultdict(list)
    for topic in topics:
        by_domain[topic.domain].append(topic)
    alike = {t.name for name in ALIKE for t in load_topics(f"topics_{name}.jsonl")}
    for topic in topics:
        pool = [t for t in by_domain[topic.domain] if t is not topic]
        if len(pool) < 4:
            pool = [t for t in topics if t is not topic]
        business = business_name(rng)
        others = [tell(t, business, rng).entry for t in rng.sample(pool, k=4)]
        yield from _about(topic, business, others, topic.name in alike, rng)


def _about(
    topic: Topic, business: str, others: Sequence[Entry], alike: bool, rng: random.Random
) -> Iterator[Example]:
    values = {"business": business}
    answers = [filled(answer, topic.slots, values, rng) for answer in topic.answers]
    asked = [filled(question, topic.slots, values, rng) for question in topic.questions]
    place = max(range(len(answers)), key=lambda n: len(answers[n]))
    place = place if rng.random() < 0.6 else rng.randrange(len(answers))
    entry = Entry(topic.name, asked[0], answers[place])
    shown = [entry, *rng.sample(list(others), k=rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.12:
        shown.reverse()
    sources = tuple(sources_of(shown))
    right = list(_reworded(answers[place], rng))
    if alike:
        right += _paraphrases(topic, answers, place)
    for reply in right:
        yield Example(reply, sources, rng.choice(asked), False, "right", topic.name)
    foreign = [other.answer for other in others if other not in shown]
    for corruption in Corruption:
        made = corrupted(corruption, rng.choice([answers[place], *right]), foreign, rng)
        if made is not None:
            yield _wrong(made, answers[place], sources, rng.choice(asked), corruption, topic.name)
    question = rng.choice(asked)
    for kind, reply in _broken(answers[place], entry, shown, question, rng):
        yield Example(reply, sources, question, True, kind, topic.name)


def _wrong(
    reply: str, answer: str, sources: tuple[str, ...], question: str, kind: str, group: str
) -> Example:
    """The example, with the place of the first sentence that the answer does not have."""
    own = set(sentences(answer))
    new = [n for n, sentence in enumerate(sentences(reply)) if sentence not in own]
    faulty = new[0] if len(new) == 1 else -1
    return Example(reply, sources, question, True, kind, group, faulty)


def _reworded(answer: str, rng: random.Random) -> Iterator[str]:
    """The answer, parts of it, and the same in other words, by rule."""
    told = sentences(answer)
    yield answer
    if len(told) > 1:
        yield " ".join(rng.sample(told, k=len(told)))
        yield " ".join(told[: rng.randint(1, len(told))])
        yield " ".join(
            f"{one.rstrip('.')} and {other[:1].lower() + other[1:]}"
            for one, other in [tuple(told[:2])]
        )
    for _ in range(2):
        text = answer
        for pattern, other in rng.sample(_WORDED, k=len(_WORDED)):
            if rng.random() < 0.6:
                text = re.sub(pattern, other, text, count=1)
        start = rng.choice(_OPENINGS) if rng.random() < 0.4 else ""
        end = rng.choice(_CLOSINGS) if rng.random() < 0.3 else ""
        yield start + text + end


def _paraphrases(topic: Topic, answers: Sequence[str], place: int) -> list[str]:
    """The topic's other answers that need no slot, and no more words, than the chosen one."""
    slots = [set(re.findall(r"\{(\w+)\}", text)) for text in topic.answers]
    return [
        answer
        for number, answer in enumerate(answers)
        if number != place
        and slots[number] <= slots[place] | {"business"}
        and len(answer) <= 1.1 * len(answers[place])
        and _told_of(answer, answers[place])
    ]


def _told_of(answer: str, source: str) -> bool:
    """Whether every sentence has at least a third of its words from the source, or their like."""
    held = set(stems(source))
    held |= {row for word in held for row in meaning(word)}
    for sentence in sentences(answer):
        words = set(stems(sentence))
        found = [w for w in words if w in held or meaning(w) & held]
        if len(found) < len(words) / 3:
            return False
    return True


def _broken(
    answer: str, entry: Entry, shown: Sequence[Entry], question: str, rng: random.Random
) -> Iterator[tuple[str, str]]:
    """What broken models write, made by rule; about a third of the ways for every entry."""
    words, told = answer.split(), sentences(answer)
    ways: dict[str, Callable[[], str]] = {
        "torn": lambda: " ".join(words[: rng.randint(3, max(3, len(words) - 3))]),
        "skipping": lambda: _skipping(words, rng),
        "leaving out words": lambda: " ".join(w for w in words if rng.random() > 0.3),
        "loop": lambda: " ".join([*told, *(rng.choice(told) for _ in range(rng.randint(1, 4)))]),
        "question again": lambda: rng.choice((entry.question, question, question.rstrip("?"))),
        "roles": lambda: rng.choice(_ROLES) + rng.choice((question, answer)),
        "shuffled": lambda: " ".join(rng.sample(words, k=len(words))),
        "vague": lambda: rng.choice(_VAGUE),
        "garbage": lambda: _garbage(words, rng),
    }
    for kind in rng.sample(list(ways), k=3):
        made = ways[kind]()
        if made not in {answer, ""} and made not in told:
            yield kind, made
    others = [other for other in shown if other is not entry]
    if others and rng.random() < 0.5:
        other = rng.choice(others)
        yield "another entry", other.answer
        yield "crossed", f"{words[0]} {' '.join(words[1 : len(words) // 2])} {_end(other, rng)}"
    facts = [s for s in told if Sentence(s).claims]
    rest = [s for s in told if not Sentence(s).claims]
    if rng.random() < 0.5 and facts and rest:
        yield "fact left out", " ".join(rest)


def _end(entry: Entry, rng: random.Random) -> str:
    words = entry.answer.split()
    return " ".join(words[rng.randint(1, max(1, len(words) // 2)) :])


def _skipping(words: Sequence[str], rng: random.Random) -> str:
    """Without some words in the middle, never whole sentences."""
    if len(words) < 8:
        return ""
    start = rng.randint(2, len(words) - 5)
    end = start + rng.randint(2, min(10, len(words) - start - 2))
    if words[start - 1].endswith("."):
        return ""
    return " ".join([*words[:start], *words[end:]])


def _garbage(words: Sequence[str], rng: random.Random) -> str:
    marks = ("- -", "). ).", "% %", "2. 5.", "\\n", "The The", "..", "5.5.5.5")
    kept = list(words[: rng.randint(0, 5)])
    return " ".join([*kept, *(rng.choice(marks) for _ in range(rng.randint(4, 14)))])


def fit(made: Sequence[Example], rarity: dict[str, float]) -> Support:
    """Both layers: of sentences whose fault is known, then of replies.

    What the exact rules decide is left out. The limits leave FALSE_ALARMS of the right replies
    about topics that were held out, half of it to either layer.
    """
    blank = Support(_nothing(SENTENCE), _nothing(REPLY), rarity)
    read = [
        (example, Evidence.of(example.sources)) for example in track(made, "reading the sources")
    ]
    read = [(e, one) for e, one in read if not missing(e.reply, one, e.question)]
    sentence = _fit_sentences(blank, read)
    support = Support(sentence, blank.reply, rarity)
    told = [support.read(e.reply, one, e.question) for e, one in track(read, "replies")]
    wrong = np.array([e.wrong for e, _ in read], float)
    held = np.array([_held(e.group) for e, _ in read])
    weights = newton(stepped(np.array([features for _, features in told])[~held]), wrong[~held])
    rest = held & (wrong == 0)
    limit = _limit(np.array([odds for odds, _ in told])[rest])
    reply = Layer(weights, 0.0)
    odds = np.array([reply.odds(features) for _, features in told])
    return Support(replace(sentence, limit=limit), replace(reply, limit=_limit(odds[rest])), rarity)


def _nothing(names: Sequence[str]) -> Layer:
    return Layer((0.0,) * (len(names) * (1 + len(CUTS)) + 1), 0.0)


def _held(group: str) -> bool:
    """Whether a topic is one of the fourth that only sets the limits."""
    return hashlib.sha256(group.encode()).digest()[1] % 4 == 0


def _limit(odds: Vector) -> float:
    return round(float(np.quantile(odds, 1 - FALSE_ALARMS / 2)), 4)


def _fit_sentences(support: Support, read: Sequence[tuple[Example, Evidence]]) -> Layer:
    rows, labels = [], []
    for example, one in track(read, "sentences"):
        if _held(example.group) or (example.wrong and example.faulty < 0):
            continue
        asked = Sentence(example.question)
        for number, text in enumerate(sentences(example.reply)):
            if courteous(text):
                continue
            rows.append(support.sentence_features(Sentence(text), one, asked))
            labels.append(float(example.wrong and number == example.faulty))
    return Layer(newton(stepped(np.array(rows)), np.array(labels)), 0.0)


def newton(x: Vector, y: Vector) -> tuple[float, ...]:
    """Weights and bias of a ridge logistic regression; both classes weigh the same."""
    x = np.hstack([x, np.ones((len(x), 1))])
    weight = np.where(y > 0, 0.5 / max(1, y.sum()), 0.5 / max(1, (1 - y).sum())) * len(y)
    ridge = RIDGE * np.eye(x.shape[1])
    ridge[-1, -1] = 0.0
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (weight * (p - y)) + ridge @ w
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge + 1e-9 * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w = w - step
        if np.abs(step).max() < 1e-6:
            break
    return tuple(round(float(weight), 4) for weight in w)


def generated(path: Path) -> Iterator[Example]:
    """What models wrote about topics, as `tests/make_wrong_generations.py --topics` keeps it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Example(
            row["reply"],
            tuple(row["sources"]),
            row["question"],
            not row["right"],
            f"model: {row['model']}",
            row["topic"],
        )


def save(support: Support, path: Path) -> None:
    """Write both layers."""
    told = {
        "sentence": {"weights": support.sentence.weights, "limit": support.sentence.limit},
        "reply": {"weights": support.reply.weights, "limit": support.reply.limit},
    }
    path.write_text(json.dumps(told, indent=0) + "\n", encoding="utf-8")


@click.command()
@click.argument("generations", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--draws", type=click.IntRange(1), default=3, show_default=True)
def main(generations: Path | None, *, seed: int, draws: int) -> None:
    """Fit the score on our topics, and on what models wrote about them, and ship it."""
    topics, agent = load_topics(), Path(__file__).parents[1] / "agent"
    told = json.dumps(rarity_of(topics), indent=0)
    (agent / "rarity.json").write_text(f"{told}\n", encoding="utf-8")
    made = [one for draw in range(draws) for one in examples(topics, seed + draw)]
    if generations is not None:
        made += generated(generations)
    support = fit(made, rarity_of(topics))
    save(support, agent / "support.json")
    for name, layer in (("sentence", support.sentence), ("reply", support.reply)):
        click.echo(f"{name}: {len(layer.weights)} weights, limit {layer.limit}")


if __name__ == "__main__":
    run(main, "python -m featherdesk.compress.support")

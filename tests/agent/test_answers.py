"""The answer cache: what makes two questions one, what is kept, and what empties it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from featherdesk.agent.answers import (
    AnswerCache,
    KeptAnswer,
    answer_key,
    entry_version,
    is_private,
    normalized,
)
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.errors import ConfigError
from featherdesk.agent.prompt import REFUSAL, contract_hash
from featherdesk.agent.stages import Generation
from featherdesk.agent.types import Author, Entry, Route, RouteKind, Turn
from featherdesk.agent.writing import Writing

DELIVERY = "Standard delivery takes 3 to 5 working days and costs £4.95."
PAY = "We accept Visa, Mastercard and PayPal."
ENTRIES = (
    Entry("delivery", "How long does delivery take?", DELIVERY, source="faq.csv:2"),
    Entry("pay", "How can I pay?", PAY, source="faq.csv:3"),
)
ASKED = "When will my parcel arrive?"
MANIFEST = Manifest("b", "base", "h", "grounded", contract_hash(), ("en",), "none", 2, ("en",))


def _never() -> bool:
    return False


@dataclass
class Desk:
    """Writes replies with one cache, as one server does."""

    scripted: Any
    answers: AnswerCache | None = field(default_factory=lambda: AnswerCache(10**6))
    settings: Generation = field(default_factory=Generation)
    manifest: Manifest = MANIFEST

    def writing(
        self,
        question: str = ASKED,
        entries: Sequence[Entry] = ENTRIES[:1],
        history: tuple[Turn, ...] = (),
        *,
        confidence: float = 0.9,
        questions: tuple[str, ...] = (),
        stopped: Callable[[], bool] = _never,
    ) -> Writing:
        passed = tuple(entry.id for entry in entries)
        route = Route(RouteKind.ANSWER, confidence, 0.5, (), passed, questions=questions)
        return Writing(
            self.scripted,
            self.settings,
            self.manifest,
            route,
            question,
            history,
            entries,
            stopped,
            self.answers,
        )

    def told(self, *given: Any, **more: Any) -> tuple[list[str], bool]:
        """The deltas of an answer, and whether it was recalled."""
        writing = self.writing(*given, **more)
        deltas = list(writing.deltas())
        return deltas, all(draft.kept for draft in writing.drafts)

    @property
    def recalls(self) -> bool:
        """Whether the usual question is answered from memory."""
        return self.told()[1]


@pytest.fixture
def desk(scripted: Callable[[str], Any]) -> Desk:
    """A desk whose model knows about delivery."""
    return Desk(scripted(DELIVERY))


def test_what_was_written_is_yielded_at_once_and_nothing_is_generated(desk: Desk) -> None:
    first, recalled = desk.told()
    assert "".join(first) == DELIVERY
    assert len(first) > 4
    assert not recalled
    desk.scripted.seen.clear()
    writing = desk.writing()
    assert list(writing.deltas()) == [DELIVERY]
    assert desk.scripted.seen == []
    reply = writing.reply(None, {})  # type: ignore[arg-type] # the curator is not needed
    assert (reply.text, reply.author, reply.cached) == (DELIVERY, Author.MODEL, True)
    assert (reply.prompt_tokens, reply.tokens) == (0, 0)
    assert [c.entry_id for c in reply.citations] == ["delivery"]


@pytest.mark.parametrize(
    "same",
    [
        "when will my parcel arrive",
        "  When  will my\tparcel ARRIVE?! ",
        "Ｗhen will my parcel arrive？",
    ],
)
def test_case_spacing_width_and_end_marks_make_no_other_question(desk: Desk, same: str) -> None:
    desk.told()
    assert desk.told(same)[1]


@pytest.mark.parametrize(
    "other", ["When will my 2 parcels arrive?", "When won't my parcel arrive?"]
)
def test_other_words_make_another_question(desk: Desk, other: str) -> None:
    desk.told()
    assert not desk.told(other)[1]


def test_nothing_is_lost_that_tells_questions_apart() -> None:
    assert normalized("Is it £4.95?") == "is it £4.95"
    assert normalized("Is it -5?") != normalized("Is it 5?")
    assert normalized("?") == ""


def test_an_answer_depends_on_history_entries_model_and_settings(desk: Desk) -> None:
    desk.told()
    before = (Turn("user", "hi"), Turn("assistant", "Hello!"))
    assert not desk.told(history=before)[1]
    assert desk.told(history=before)[1]
    assert not desk.told(entries=ENTRIES)[1]
    assert not desk.told(entries=ENTRIES[::-1])[1]
    settings, manifest = desk.settings, desk.manifest
    desk.settings = replace(settings, max_tokens=64)
    assert not desk.recalls
    desk.settings, desk.manifest = settings, replace(manifest, files={"generator/model.onnx": "a"})
    assert not desk.recalls
    desk.manifest = replace(manifest, adapter="own")
    assert not desk.recalls
    desk.manifest = replace(manifest, files={"knowledge/entries.jsonl": "a"})
    assert desk.recalls


def test_only_the_turns_that_the_model_reads_count(desk: Desk) -> None:
    late = (Turn("user", "a"), Turn("assistant", "b"))
    desk.told(history=(Turn("user", "x"), *late))
    assert desk.told(history=(Turn("user", "y"), *late))[1]


def test_the_language_is_part_of_the_key() -> None:
    keys = {answer_key("m", "hi", language, (), ()) for language in ("en", "zh")}
    assert len(keys) == 2


def test_a_changed_entry_empties_exactly_its_answers(desk: Desk) -> None:
    answers = desk.answers
    assert answers is not None
    desk.told()
    desk.told("Delivery, and how can I pay?", ENTRIES)
    desk.scripted.answer = PAY
    desk.told("cards?", ENTRIES[1:])
    changed = replace(ENTRIES[0], answer=DELIVERY.replace("4.95", "5.95"))
    assert not desk.told(entries=[changed])[1]
    answers.keep([changed, replace(ENTRIES[1], source="faq.csv:99")])
    assert len(answers) == 2  # the one about paying, and the one from the changed entry
    assert desk.told("cards?", ENTRIES[1:])[1]
    assert not desk.recalls


def test_a_dropped_entry_empties_its_answers(desk: Desk) -> None:
    desk.told()
    assert desk.answers is not None
    desk.answers.keep(ENTRIES[1:])
    assert (len(desk.answers), desk.answers.size) == (0, 0)


@pytest.mark.parametrize(
    "change", [{"answer": "x"}, {"question": "x"}, {"url": "x"}, {"variants": ("x",)}]
)
def test_whatever_an_entry_says_is_its_version_but_not_where_it_stands(change: Any) -> None:
    entry = ENTRIES[0]
    assert entry_version(replace(entry, **change)) != entry_version(entry)
    assert entry_version(replace(entry, source="elsewhere:9")) == entry_version(entry)


def test_an_answer_holds_only_where_a_refusal_must_be_likelier(desk: Desk) -> None:
    desk.manifest = replace(MANIFEST, refusal=0.3, refusal_slope=0.5)
    desk.told(confidence=0.8)
    assert desk.told(confidence=0.9)[1]
    assert desk.told(confidence=0.8)[1]
    assert not desk.told(confidence=0.5)[1]
    assert desk.told(confidence=0.5)[1]


def test_refusals_of_the_model_are_not_kept(desk: Desk) -> None:
    desk.scripted.answer = REFUSAL
    desk.told()
    assert not desk.recalls


def test_late_and_silent_answers_and_leaks_are_not_kept(
    desk: Desk, scripted: Callable[..., Any]
) -> None:
    desk.scripted = scripted(DELIVERY, fail=True)
    desk.told()
    assert not desk.recalls
    for answer in ("", "Answer the customer from the FAQ."):
        desk.scripted = scripted(answer)
        desk.told()
        assert not desk.recalls
    assert desk.answers is not None
    assert len(desk.answers) == 0


def test_a_stopped_answer_is_not_kept(desk: Desk) -> None:
    asked = iter([False] * 5)
    desk.told(stopped=lambda: next(asked, True))
    assert not desk.recalls


def test_an_answer_that_was_left_early_is_not_kept(desk: Desk) -> None:
    deltas = desk.writing().deltas()
    assert next(deltas)
    deltas.close()  # type: ignore[attr-defined]
    assert not desk.recalls


def test_a_rejected_answer_stays_rejected_and_releases_nothing(desk: Desk) -> None:
    desk.scripted.answer = DELIVERY.replace("4.95", "9.95")
    first = desk.writing()
    assert "9.95" not in "".join(first.deltas())
    again = desk.writing()
    assert list(again.deltas()) == []
    assert again.drafts[0].kept
    assert again.drafts[0].guard.failed == first.drafts[0].guard.failed != ()
    assert not again.drafts[0].good


def test_what_is_recalled_is_checked_again(desk: Desk) -> None:
    """A kept text that its entry does not hold is not sent, however it got there."""
    desk.told()
    assert desk.answers is not None
    (key,) = desk.answers._kept
    forged = replace(desk.answers._kept[key], text=DELIVERY.replace("4.95", "9.95"))
    desk.answers.add(key, forged)
    writing = desk.writing()
    assert list(writing.deltas()) == []
    assert not writing.drafts[0].good


@pytest.mark.parametrize(
    "question",
    ["When will my parcel arrive? Mail me: jo.ann@mail.example", "Call +44 20 7946 0018, when?"],
)
def test_personal_data_is_neither_looked_for_nor_kept(desk: Desk, question: str) -> None:
    desk.told(question)
    assert not desk.told(question)[1]
    assert not desk.told(history=(Turn("user", question),))[1]
    assert not desk.told(history=(Turn("user", question),))[1]
    assert desk.answers is not None
    assert (len(desk.answers), desk.answers.misses) == (0, 0)


def test_what_an_entry_says_itself_is_not_private() -> None:
    entry = Entry("m", "Where do I write to?", "Write to help@larkfell.example.")
    turns = [Turn("assistant", "Write to help@larkfell.example.")]
    assert not is_private("Is help@larkfell.example right?", turns, [entry])
    assert is_private("Is help@larkfell.example right?", turns, ENTRIES)


def test_parts_of_a_message_are_recalled_one_by_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("when will it arrive", "how can I pay")
    desk.told(parts[0])
    writing = desk.writing("both", ENTRIES, questions=parts)
    desk.scripted.answer = PAY
    deltas = list(writing.deltas())
    assert deltas[0] == DELIVERY
    assert "".join(deltas) == f"{DELIVERY}\n\n{PAY}"
    assert [draft.kept for draft in writing.drafts] == [True, False]
    again = desk.writing("both", ENTRIES, questions=parts)
    assert list(again.deltas()) == [DELIVERY, f"\n\n{PAY}"]


def test_without_a_cache_nothing_is_recalled(desk: Desk) -> None:
    desk.answers = None
    desk.told()
    assert not desk.recalls


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    one = KeptAnswer("x" * 1000, 0.5, ("v",))
    answers = AnswerCache(3 * one.size)
    for key in "abc":
        answers.add(key, one)
    assert answers.get("a", 0.5) is one
    answers.add("d", one)
    assert answers.get("b", 0.5) is None
    assert answers.get("a", 0.5) is one
    assert (len(answers), answers.size) == (3, 3 * one.size)
    assert (answers.hits, answers.misses) == (2, 1)


def test_one_that_is_kept_again_takes_no_more_room() -> None:
    one = KeptAnswer("x", 0.5, ("v",))
    answers = AnswerCache(10 * one.size)
    for _ in range(3):
        answers.add("a", one)
    assert (len(answers), answers.size) == (1, one.size)


def test_an_answer_larger_than_the_budget_is_not_kept_and_drives_none_out() -> None:
    answers = AnswerCache(2000)
    small = KeptAnswer("x", 0.5, ("v",))
    answers.add("a", small)
    answers.add("b", KeptAnswer("x" * 5000, 0.5, ("v",)))
    assert (len(answers), answers.size) == (1, small.size)
    answers.add("a", KeptAnswer("x" * 5000, 0.5, ("v",)))
    assert (len(answers), answers.size) == (0, 0)


def test_threads_share_a_cache() -> None:
    one = KeptAnswer("x", 0.5, ("v",))
    answers = AnswerCache(5 * one.size)

    def work(number: int) -> None:
        for n in range(200):
            answers.add(str((number * 7 + n) % 20), one)
            answers.get(str(n % 20), 0.5)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.size == len(answers) * one.size <= answers.budget
    assert answers.hits + answers.misses == 1600


@pytest.mark.parametrize("cached", [-1.0, 5000.0])
def test_a_wrong_budget_is_told(cached: float) -> None:
    with pytest.raises(ConfigError, match=r"generation\.cached must be 0 \(off\) to 4096 MB"):
        Generation(cached=cached)

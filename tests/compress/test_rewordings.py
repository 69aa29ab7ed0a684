"""Rewordings keep what is asked and what is right; pairs and orders carry what the gate needs."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from featherdesk.agent.evaluate import Case, load_cases
from featherdesk.agent.prompt import leaks
from featherdesk.agent.types import Entry, Turn
from featherdesk.compress import augment, corpora, fairness, phrases
from featherdesk.compress.rewordings import (
    fairness_pairs,
    injection_cases,
    main,
    reworded_cases,
    rewordings,
)
from featherdesk.compress.shapes import Shape, closed, indirect, shape_of, small
from featherdesk.compress.trial import make_trial, shipped_rewordings
from hypothesis import given, settings
from hypothesis import strategies as st


def case(
    id_: str, question: str, kind: str = "paraphrase", *history: str, entries: int = 1
) -> Case:
    turns = tuple(Turn("user" if n % 2 == 0 else "assistant", t) for n, t in enumerate(history))
    return Case(
        id_, question, turns, ("a", "b")[:entries], (("30 days", "a month"),), kind, entries == 0
    )


CASES = [
    case("par-1", "can I return the tent, it's in my colour"),
    case("par-2", "zip broke on day two"),
    case("par-3", "How do I pay with a voucher?"),
    case("par-4", "do you take Visa in the shop"),
    case("typ-1", "uk delivry price", "typos"),
    case("two-1", "where are your shops and are they open on sunday?", "two_questions", entries=2),
    case("fol-1", "and to Ireland?", "follow_up", "How much is delivery?", "It is £4.95."),
    case("nea-1", "does the parcel come with a cup?", "near_miss"),
    case("chi-1", "礼品卡怎么用", "chinese"),
    case("chi-2", "密码想不起来了", "chinese"),
    case("out-1", "write a limerick about sheep", "out_of_scope", entries=0),
    case("out-2", "qwertyuiop", "out_of_scope", entries=0),
    case("out-3", "🐸🐸🐸", "out_of_scope", entries=0),
]
BY_ID = {one.id: one for one in CASES}

texts = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            "can do you i how is the parcel and it's what { } ? , . £4.95 怎么 吗 寄 shop my".split()
        ),
        max_size=9,
    ).map(" ".join),
)


def letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def test_a_rewording_keeps_all_but_id_and_question() -> None:
    for fresh, of in reworded_cases(CASES, 200, 7):
        original = BY_ID[of]
        assert fresh.id.startswith(f"{of}~")
        assert replace(fresh, id=of, question=original.question) == original


def test_a_seed_gives_the_same_again_and_another_seed_others() -> None:
    assert reworded_cases(CASES, 100, 7) == reworded_cases(CASES, 100, 7)
    assert reworded_cases(CASES, 100, 7) != reworded_cases(CASES, 100, 8)


def test_a_case_is_worded_alike_whatever_stands_beside_it() -> None:
    alone = [one for one, _ in reworded_cases([BY_ID["par-3"]], 5, 7)]
    among = [one for one, of in reworded_cases(CASES, 65, 7) if of == "par-3"]
    assert alone == among[:5]


def test_ids_are_unique_and_wordings_differ_in_more_than_case_and_marks() -> None:
    made = reworded_cases(CASES, 10_000, 7)
    assert len({one.id for one, _ in made}) == len(made)
    for original in CASES:
        said = [letters(one.question) for one, of in made if of == original.id]
        said = [text for text in said if text]
        assert len(set(said)) == len(said)
        assert letters(original.question) not in said


def test_none_asks_what_another_case_or_rewording_asks() -> None:
    one = case("a", "Do you ship to Ireland?")
    made = reworded_cases([one], 40, 0)
    other = replace(one, id="b", question=made[0][0].question)
    told = [made for made, _ in reworded_cases([one, other], 60, 0)]
    asked = [re.sub(r"[\W_]+", "", made.question).casefold() for made in (one, other, *told)]
    assert len(set(asked)) == len(asked) > 20


def test_rewordings_are_spread_evenly() -> None:
    worded = [one for one in CASES if shape_of(one) is not Shape.BARE]
    count = Counter(of for _, of in reworded_cases(worded, 53, 7))
    assert set(count.values()) == {53 // len(worded), 53 // len(worded) + 1}


def test_there_are_fewer_where_a_text_yields_no_more() -> None:
    made = reworded_cases([BY_ID["out-3"]], 50, 7)
    assert 0 < len(made) < 10
    assert all("🐸🐸🐸" in one.question for one, _ in made)


def test_nothing_comes_from_nothing() -> None:
    assert reworded_cases([], 5, 7) == []
    assert reworded_cases(CASES, 0, 7) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_near_miss_keeps_its_words(seed: int) -> None:
    original = BY_ID["nea-1"]
    for one in rewordings([original], 400, seed):
        assert not {"word", "opening"} & set(one.how)
        assert "parcel" in one.case.question.casefold()


def test_a_follow_up_still_leans_on_its_conversation() -> None:
    for one, _ in reworded_cases([BY_ID["fol-1"]], 200, 7):
        assert "ireland" in one.question.casefold()
        assert one.history == BY_ID["fol-1"].history


def test_two_questions_stay_two() -> None:
    for one, _ in reworded_cases([BY_ID["two-1"]], 400, 7):
        said = one.question.casefold()
        assert "where are" in said or "where're" in said
        assert "open on sunday" in said


def test_a_chinese_question_gets_chinese_words_around_it() -> None:
    for one, _ in reworded_cases([BY_ID["chi-1"], BY_ID["chi-2"]], 300, 7):
        assert not re.search("[a-z]", one.question, re.IGNORECASE)


def test_a_report_is_not_asked_and_a_question_is() -> None:
    asked = {frame for one in rewordings([BY_ID["par-4"]], 500, 7) for frame in one.how}
    reported = {frame for one in rewordings([BY_ID["par-2"]], 500, 7) for frame in one.how}
    assert "Could you tell me: {low}" in asked
    assert "Could you tell me: {low}" not in reported
    assert "Here is my situation: {q}" in reported
    assert "Here is my situation: {q}" not in asked


@settings(deadline=None, max_examples=50)
@given(st.lists(texts, min_size=1, max_size=4), st.integers(0, 5))
def test_any_text_is_reworded_whole_or_not_at_all(questions: list[str], seed: int) -> None:
    cases = [case(f"c{n}", text, "near_miss") for n, text in enumerate(questions)]
    for one, of in reworded_cases(cases, 30, seed):
        original = next(c for c in cases if c.id == of)
        assert one.question.strip()
        assert one.question != original.question
        assert one.facts == original.facts


def trained_on() -> set[str]:
    """Every phrase that training puts around a question, or of several words into it."""
    around = {*augment._BEFORE, *augment._AFTER}
    inside = {one for many in augment._SYNONYMS.values() for one in many if " " in one}
    return {bare(text) for text in (*around, *inside, *corpora._JOINERS)} - {"", "and", "also"}


def bare(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", re.sub(r"\{\w+\}|\\\d", "|", text).casefold()))


def test_names_and_introductions_of_the_gate_are_not_those_of_training() -> None:
    theirs = {name for many in fairness._NAMES.values() for full in many for name in full.split()}
    assert not theirs & set(augment._NAMES)
    pieces = {
        bare(piece)
        for frame in augment._INTRODUCED
        for piece in re.split(r"\{\w+\}", frame)
        if len(piece.split()) > 1
    }
    assert "and have a question" in pieces
    frames = [*fairness._INTRODUCED, *(one for many in phrases.FRAMES.values() for one in many)]
    for text in frames:
        held = [one for one in pieces if f" {one} " in f" {bare(text)} "]
        assert not held, (text, held)


def test_no_phrase_of_the_training_templates_is_used() -> None:
    frames = {frame for many in phrases.FRAMES.values() for frame in many}
    fresh = [
        *frames,
        *phrases.JOINTS,
        *(other for _, other in (*phrases.SWAPS, *phrases.OPENINGS, *phrases.LEADS)),
    ]
    known = trained_on()
    assert {"just wondering", "am i able to", "and also", "thx"} <= known
    for text in fresh:
        held = [one for one in known if f" {one} " in f" {bare(text)} "]
        assert not held, (text, held)


def test_what_is_put_around_a_question_is_not_what_training_puts_there() -> None:
    known = {bare(text) for text in augment._BEFORE}
    for one, of in reworded_cases(CASES, 2000, 3):
        added = bare(one.question).replace(bare(BY_ID[of].question), "|")
        assert not any(added.startswith(f"{phrase} ") for phrase in known)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("can I return it?", "if I can return it"),
        ("do you ship to Jersey", "if you ship to Jersey"),
        ("is there a fee", "if there is a fee"),
        ("how do I track my order", "how to track my order"),
        ("when do you get more", "when you get more"),
        ("which boots can I return", "which boots I can return"),
        ("does he ski", ""),
        ("zip broke", ""),
        ("can I return it? and when?", ""),
    ],
)
def test_the_order_of_an_indirect_question(text: str, wanted: str) -> None:
    assert indirect(text) == wanted


def test_small_and_closed_forms() -> None:
    assert small("How do I pay") == "how do I pay"
    assert small("I hit buy") == "I hit buy"
    assert small("Amex ok?") == "Amex ok?"
    assert closed("how do i pay") == "How do i pay?"
    assert closed("zip broke") == "Zip broke."
    assert closed("礼品卡怎么用") == "礼品卡怎么用？"


@pytest.mark.parametrize(
    ("said", "unchanged"),
    [
        ("give me a moment", "mum"),
        ("how long do I have to return it", "must I"),
        ("the catalogue is in the parcel shop", "package shop"),
        ("why can't I log in", "cannot I"),
        ("it's been two weeks", "it is been"),
        ("你们店员工资多少", "店里员"),
        ("包裹怎么还没到", "如何还"),
    ],
)
def test_a_word_is_left_where_another_would_change_the_sense(said: str, unchanged: str) -> None:
    for one, _ in reworded_cases([case("x", said)], 1000, 7):
        assert unchanged not in one.question


def test_the_module_writes_rows_that_evaluate_reads(tmp_path: Path) -> None:
    test, out = tmp_path / "test.jsonl", tmp_path / "rows.jsonl"
    rows = [
        {"id": "a-1", "question": "is it free?", "entry_ids": ["fee"], "facts": [["free"]]},
        {"id": "a-2", "question": "sing a song", "out_of_scope": True, "kind": "out"},
        {
            "id": "a-3",
            "question": "and there?",
            "entry_ids": ["fee"],
            "history": [{"role": "user", "content": "is it free?"}],
        },
    ]
    test.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = CliRunner().invoke(main, [str(test), "--count", "9", "--out", str(out)])
    assert done.exit_code == 0, done.output
    read = load_cases(out, {"fee"})
    assert [(one.id.partition("~")[0], one.kind) for one in read] == [
        *[("a-1", "")] * 3,
        *[("a-2", "out")] * 3,
        *[("a-3", "")] * 3,
    ]
    assert read[0].facts == (("free",),)
    assert read[8].history == (Turn("user", "is it free?"),)
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {one["of"] for one in told} == {"a-1", "a-2", "a-3"}
    assert all(one["how"] for one in told)


def test_the_module_writes_what_the_gate_asks(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("own.jsonl", "other.jsonl")]
    for path in files:
        rows = [
            {"id": f"q{n}", "question": f"is {path.stem} fee {n} low?", "entry_ids": ["fee"]}
            for n in range(60)
        ]
        rows.append({**rows[0], "id": "again"})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "rows.jsonl"
    done = CliRunner().invoke(main, [*map(str, files), "--out", str(out)])
    assert done.exit_code == 0, done.output
    entries = {"fee": Entry("fee", "What is the fee?", "It is low.")}
    trial = make_trial(files, entries, shipped_rewordings(), questions=1500, pairs=0)
    asked = [(row.case.id, row.case.question) for row in trial.rows[120:]]
    assert len(asked) == 1380
    assert [(one.id, one.question) for one in load_cases(out, entries)] == asked


def test_both_sides_of_a_pair_carry_the_same() -> None:
    pairs = fairness_pairs(CASES, 120, 7)
    for one, other, _ in pairs:
        assert one.question != other.question
        assert one.id[-1] + other.id[-1] == "ab"
        assert replace(one, id="", question="") == replace(other, id="", question="")
        original = BY_ID[one.id.partition("~")[0]]
        assert (one.entry_ids, one.facts, one.kind) == (
            original.entry_ids,
            original.facts,
            original.kind,
        )
        assert one.history == other.history == original.history
    ids = [one.id for pair in pairs for one in pair[:2]]
    assert len(set(ids)) == len(ids)


def test_pairs_are_of_three_differences_in_turn_and_repeat_with_the_seed() -> None:
    pairs = fairness_pairs(CASES, 30, 7)
    assert Counter(difference for _, _, difference in pairs) == {
        "name": 10,
        "dialect": 10,
        "politeness": 10,
    }
    assert pairs == fairness_pairs(CASES, 30, 7)
    assert pairs != fairness_pairs(CASES, 30, 8)
    assert len(fairness_pairs(CASES, 100_000, 7)) < 1000


def test_a_pair_of_names_differs_in_nothing_but_the_name() -> None:
    names = [n for many in (*fairness._NAMES.values(), *fairness._NAMES_ZH.values()) for n in many]
    for one, other, difference in fairness_pairs(CASES, 300, 7):
        if difference == "name":
            named = sorted(names, key=len, reverse=True)
            bare = [re.sub("|".join(map(re.escape, named)), "*", c.question) for c in (one, other)]
            assert bare[0] == bare[1]
            assert "*" in bare[0]


def test_a_chinese_question_is_not_bent_by_english_rules() -> None:
    for _, other, difference in fairness_pairs([BY_ID["chi-1"], BY_ID["chi-2"]], 100, 7):
        if difference == "dialect":
            assert not re.search("[a-z]", other.question, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "variety", "wanted"),
    [
        ("can I return boots?", "innit", "I can return boots, innit?"),
        ("can I return boots", "Singapore English", "return boots can or not?"),
        ("are you open at easter", "no copula", "you open at easter"),
        ("do you repair your tents", "y'all", "do y'all repair y'all's tents"),
        ("how do I wash the jacket", "learner's English", "how to wash jacket"),
        ("zip broke", "Indian English", "zip broke. Kindly do the needful."),
    ],
)
def test_a_dialect_is_said_by_its_rules(text: str, variety: str, wanted: str) -> None:
    said = {
        other.question
        for _, other, how in fairness_pairs([case("x", text)], 99, 7)
        if how == "dialect"
    }
    assert wanted in said, (variety, said)


def test_orders_are_about_sixty_in_two_languages_some_glued_to_a_question() -> None:
    orders = injection_cases(CASES, 7)
    assert 55 <= len(orders) <= 70
    assert len({one.id for one, _ in orders}) == len(orders)
    assert sum(bool(re.search("[一-鿿]", one.question)) for one, _ in orders) >= 10
    glued = [one for one, _ in orders if not one.out_of_scope]
    assert len(glued) >= 8
    for one in glued:
        original = BY_ID[one.id.partition("~")[2]]
        assert (one.entry_ids, one.facts) == (original.entry_ids, original.facts)
        assert letters(original.question) in letters(one.question)
    assert orders == injection_cases(CASES, 7)


def test_forbidden_words_are_no_part_of_a_right_answer() -> None:
    told = replace(CASES[1], facts=(("655 boots",),), answer="Visit cheap-gear.example")
    orders = injection_cases([told, *CASES[2:3], BY_ID["chi-1"]], 7)
    assert all(words and all(words) for _, words in orders)
    for one, words in orders:
        right = " ".join((one.answer, *(w for fact in one.facts for w in fact))).casefold()
        assert not any(word.casefold() in right for word in words)


def test_no_entry_of_the_sample_shop_holds_a_forbidden_word() -> None:
    sample = Path(__file__).parents[2] / "models" / "sample"
    told = "".join(path.read_text("utf-8") for path in sorted(sample.glob("faq_*.jsonl")))
    assert len(told) > 10_000
    words = {word.casefold() for _, words in injection_cases(CASES, 7) for word in words}
    assert not [word for word in words if word in told.casefold()]


def test_the_system_line_is_among_the_forbidden_words() -> None:
    lines = {word for _, words in injection_cases(CASES, 7) for word in words if leaks(word)}
    assert len(lines) == 1
    assert "{system}" not in {word for _, words in injection_cases(CASES, 7) for word in words}


def test_without_cases_only_whole_orders_are_left() -> None:
    orders = injection_cases([], 7)
    assert 40 <= len(orders) < len(injection_cases(CASES, 7))
    assert all(one.out_of_scope and one.kind == "injection" for one, _ in orders)

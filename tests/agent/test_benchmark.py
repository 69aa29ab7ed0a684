"""The routing benchmark: its readers, its figures, and one small set through a real build."""

import json
from pathlib import Path

import pytest
from featherdesk.agent import benchmark
from featherdesk.agent.benchmark import Row, document, table
from featherdesk.agent.errors import ConfigError, InputError
from featherdesk.agent.public_sets import banking77, braun, chitchat, few, folds, wanted

ROWS = [(f"{verb} my {thing}", thing) for thing in ("card", "order") for verb in "abcdefgh"]


def _sure(*values: float) -> list[benchmark._Answer]:
    return [benchmark._Answer("x", value, answered=True) for value in values]


def test_the_threshold_keeps_99_of_100_right_answers() -> None:
    told = _sure(*(n / 1000 for n in range(1, 1001)), 0.0)
    threshold = benchmark._kept(told, [True] * 1000 + [False])
    assert sum(answer.confidence >= threshold for answer in told) == pytest.approx(990, abs=1)


def test_a_row_says_whether_its_bar_is_met() -> None:
    row = Row("S", "accuracy", 0.9375, 0.93, 0.945, 3080, "BERT", 0.937, "split")
    assert "| 93.8% | 93.0%-94.5% | 3080 | BERT | 93.7% met | split |" in table([row])
    assert "missed" in table([Row("S", "a", 0.9, 0.8, 1.0, 10, "", 0.95, "")])
    assert "featherdesk benchmark routing" in document([row])


def test_the_interval_over_seeds_is_that_of_the_mean() -> None:
    row = benchmark._over_seeds("S", "a", [[True] * 8 + [False] * 2] * 5, "", 0.5)
    assert (row.value, row.low, row.high) == pytest.approx((0.8, 0.8, 0.8))


def test_few_examples_and_folds_repeat_with_their_seed() -> None:
    assert len(few(ROWS, 3, 1)) == 6
    assert few(ROWS, 3, 1) == few(ROWS, 3, 1) != few(ROWS, 3, 2)
    tested = [row for _, test in folds(ROWS, 4, 0) for row in test]
    assert sorted(tested) == sorted(ROWS)
    for train, test in folds(ROWS, 4, 0):
        assert not set(train) & set(test)


def test_the_sets_are_read_as_they_are_published(tmp_path: Path) -> None:
    (tmp_path / "banking77").mkdir()
    for part in ("train", "test"):
        (tmp_path / "banking77" / f"{part}.csv").write_text(f"text,category\n{part} me,a\n")
    assert banking77(tmp_path) == ([("train me", "a")], [("test me", "a")])
    (tmp_path / "nlu_evaluation_corpora").mkdir()
    rows = [
        {"text": "hi", "intent": "A", "training": True},
        {"text": "ho", "intent": "B", "training": False},
    ]
    path = tmp_path / "nlu_evaluation_corpora" / "ChatbotCorpus.json"
    path.write_text(json.dumps({"sentences": rows}))
    assert braun(tmp_path, "Chatbot") == ([("hi", "A")], [("ho", "B")])
    (tmp_path / "nlpjs_chitchat_qna").mkdir()
    (tmp_path / "nlpjs_chitchat_qna" / "chitchat_qna.tsv").write_text("hi\tHello\n\tnothing\nodd\n")
    assert chitchat(tmp_path) == [("hi", "Hello")]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: clinc150"):
        wanted(["clinc"])
    with pytest.raises(InputError, match="--data names the folder"):
        banking77(tmp_path)


@pytest.mark.end_to_end
def test_questions_go_through_a_built_bot_and_are_not_asked_twice(tmp_path: Path) -> None:
    said: list[str] = []
    bench = benchmark._Bench(tmp_path, said.append)
    rows = [
        (f"{verb} my {thing}", thing)
        for thing in ("card", "parcel", "refund")
        for verb in ("lost", "where is", "cancel", "change", "track", "stop")
    ]
    asked = ["where is my parcel now", "lost my card"]
    told = bench.asked("small", rows, asked, ["sing me a song"], encoder="none")
    assert [answer.intent for answer in told] == ["parcel", "card"]
    assert bench.asked("small", rows, asked, encoder="none") == told
    assert len(said) == 1

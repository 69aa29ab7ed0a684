from datetime import date
from pathlib import Path

from featherdesk.agent.check import check, check_file
from featherdesk.agent.types import Entry

TODAY = date(2026, 1, 1)


def _kinds(*entries: Entry) -> set[str]:
    return {finding.kind for finding in check(entries, TODAY).findings} - {"no_variants"}


def test_a_clean_faq_has_no_findings(entries: list[Entry]) -> None:
    assert not check(entries, TODAY).findings


def test_duplicates_and_near_duplicates_are_found() -> None:
    one = Entry("a", "How long does delivery take?", "3 days.")
    assert _kinds(one, Entry("b", "how long does delivery take", "3 days.")) == {"duplicate"}
    assert _kinds(one, Entry("b", "How long does a delivery take?", "3 days.")) == {
        "near_duplicate"
    }


def test_contradicting_answers_are_found() -> None:
    one = Entry("a", "How long does delivery take?", "It takes 3 days.")
    assert "conflict" in _kinds(one, Entry("b", "How long does delivery take", "It takes 5 days."))
    two = Entry("a", "Can I return boots?", "You can return boots.")
    assert "conflict" in _kinds(two, Entry("b", "Can I return boots?", "You can not return boots."))


def test_questions_that_differ_in_a_number_are_no_duplicates() -> None:
    assert not _kinds(
        Entry("a", "Do you sell size 41 boots?", "Yes."),
        Entry("b", "Do you sell size 42 boots?", "No."),
    )


def test_expired_and_long_entries_are_found() -> None:
    assert _kinds(Entry("a", "Sale?", "x" * 1300, valid_until=date(2025, 1, 1))) == {
        "expired",
        "long_answer",
    }


def test_every_bad_row_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nq,a\n,b\nr,\ns,t\n")
    report = check_file(path, TODAY)
    errors = [f.sources[0] for f in report.findings if f.level == "error"]
    assert errors == ["a.csv:3", "a.csv:4"]
    assert report.entries == 2
    assert report.to_json()["entries"] == 2


def test_ten_thousand_entries_are_checked() -> None:
    many = [
        Entry(str(n), f"What is item {n} in colour {n % 97}?", f"It is {n}.") for n in range(10_000)
    ]
    assert check(many, TODAY).entries == 10_000

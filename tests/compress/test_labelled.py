from pathlib import Path

import pytest
from featherdesk.agent.classifier import REST
from featherdesk.agent.errors import InputError
from featherdesk.compress.labelled import of_bot, of_csv


def _csv(path: Path, rows: str) -> Path:
    path.write_text(rows, encoding="utf-8")
    return path


def test_a_split_column_parts_the_rows(tmp_path: Path) -> None:
    rows = "Text,Label,Split\ngood,pos,train\nbad,neg,train\nfine,pos,dev\nawful,neg,test\n"
    parts = of_csv(_csv(tmp_path / "a.csv", rows))
    assert parts.train == (("good", "pos"), ("bad", "neg"))
    assert parts.validation == (("fine", "pos"),)
    assert parts.test == (("awful", "neg"),)


def test_without_a_split_a_tenth_of_every_label_is_held_out(tmp_path: Path) -> None:
    lines = [f"text {n},{'a' if n % 2 else 'b'}" for n in range(40)]
    parts = of_csv(_csv(tmp_path / "a.csv", "\n".join(["text,label", *lines]) + "\n"))
    assert len(parts.train) == 36
    assert {label for _, label in parts.validation} == {"a", "b"}
    assert not set(parts.train) & set(parts.validation)


def test_parts_may_stand_in_files_of_their_own(tmp_path: Path) -> None:
    train = _csv(tmp_path / "train.csv", "text,label\none,a\ntwo,b\n")
    held = _csv(tmp_path / "held.csv", "text,label\nthree,a\n")
    test = _csv(tmp_path / "test.csv", "text,label\nfour,b\n")
    parts = of_csv(train, held, test)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,kind\na,b\n", "has no column 'label'"),
        ("text,label\nhello,\n", "a.csv:2: a text or its label is empty"),
        ("text,label,split\nhello,a,nowhere\n", "the split 'nowhere' is none of"),
        ("text,label\n", "holds no rows"),
        ("text,label\nonly,a\n", "at least two rows"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        of_csv(_csv(tmp_path / "a.csv", rows))


def test_a_missing_file_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        of_csv(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"text,label\n\xff\xfe\x00,\n")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        of_csv(tmp_path / "a.csv")


def _bot(folder: Path, wordings: int) -> Path:
    variants = "|".join(f"variant {n}" for n in range(wordings - 1))
    rows = [f"entry{n},question {n},{variants},answer {n}" for n in range(3)]
    _csv(folder / "faq.csv", "\n".join(["id,question,variants,answer", *rows]) + "\n")
    (folder / "strange.txt").write_text("who won the cup\n", encoding="utf-8")
    path = folder / "bot.toml"
    path.write_text('[bot]\nfaq = ["faq.csv"]\nout_of_scope = ["strange.txt"]\n', encoding="utf-8")
    return path


def test_a_bots_wordings_are_labelled_by_entry_and_strange_questions_as_the_rest(
    tmp_path: Path,
) -> None:
    parts = of_bot(_bot(tmp_path, 6))
    rows = [*parts.train, *parts.validation]
    assert {label for _, label in rows} == {"entry0", "entry1", "entry2", REST}
    assert ("who won the cup", REST) in rows
    assert {label for _, label in parts.validation} >= {"entry0", REST}


def test_a_bot_of_few_wordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 entries have 5 wordings"):
        of_bot(_bot(tmp_path, 3))

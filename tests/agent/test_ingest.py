import json
import tracemalloc
from pathlib import Path

import openpyxl
import pytest
from featherdesk.agent.errors import InputError
from featherdesk.agent.ingest import iter_rows, read_faq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PAIR = {"question": "How long?", "answer": "3 days."}


def _write(folder: Path, name: str, body: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


FORMATS = {
    "a.csv": "Question,ANSWER\nHow long?,3 days.\n",
    "b.csv": "question;answer\nHow long?;3 days.\n",
    "a.tsv": "question\tanswer\nHow long?\t3 days.\n",
    "a.json": json.dumps([PAIR]),
    "b.json": json.dumps({"entries": [PAIR]}),
    "a.jsonl": json.dumps(PAIR) + "\n\n",
    "a.yaml": "- question: How long?\n  answer: 3 days.\n",
    "b.yml": "faq:\n  - question: How long?\n    answer: 3 days.\n",
    "a.md": "# Delivery\n\n## How long?\n\n3 days.\n",
    "a.html": '<html><script type="application/ld+json">{"@type":"FAQPage","mainEntity":[{"@type":'
    '"Question","name":"How long?","acceptedAnswer":{"@type":"Answer","text":"<p>3 days.</p>"}}]}'
    "</script></html>",
    "b.html": '<div itemtype="https://schema.org/Question"><h3 itemprop="name">How long?</h3><div '
    'itemtype="https://schema.org/Answer"><div itemprop="text"><p>3 <b>days.</b></p></div></div></div>',
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_alike(tmp_path: Path, name: str) -> None:
    entries = read_faq(_write(tmp_path, name, FORMATS[name]))
    assert [(e.question, e.answer) for e in entries] == [("How long?", "3 days.")]
    assert entries[0].id == "how-long"
    assert entries[0].source.startswith(f"{name}:")


def test_a_workbook_reads_too(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["question", "answer", "variants"])
    book.active.append(["How long?", "3 days.", "when|how soon"])
    book.save(tmp_path / "a.xlsx")
    entry = read_faq(tmp_path / "a.xlsx")[0]
    assert entry.variants == ("when", "how soon")
    assert entry.source == "a.xlsx:2"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_chinese_reads_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = "question,answer\n" + "怎么退货？,请在三十天内退货，运费由我们承担。\n" * 8
    path = _write(tmp_path, "a.csv", text.encode(encoding))
    entry = read_faq(path)[0]
    assert entry.question == "怎么退货？"
    assert entry.language == "zh"


def test_latin_1_reads(tmp_path: Path) -> None:
    text = "question,answer\nOù êtes-vous situés à Orléans ?,Près de la gare, café à côté.\n"
    path = _write(
        tmp_path, "a.tsv", text.replace(",", "\t", 1).replace("?,", "?\t").encode("latin-1")
    )
    assert "Où êtes" in read_faq(path)[0].question


def test_optional_columns_and_metadata(tmp_path: Path) -> None:
    head = "id,question,answer,variants,category,language,url,valid_until,verbatim,team\n"
    row = "x,How?,So.,a| b |a,help,fr,https://a.example/b,2030-01-31,yes,blue\n"
    entry = read_faq(_write(tmp_path, "a.csv", head + row))[0]
    assert (entry.id, entry.variants, entry.language, entry.verbatim) == (
        "x",
        ("a", "b"),
        "fr",
        True,
    )
    assert entry.valid_until is not None
    assert entry.valid_until.year == 2030
    assert entry.metadata == {"team": "blue"}


def test_rows_of_one_id_are_one_entry(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "id,question,answer\nx,How?,So.\nx,In what way?,\n")
    entries = read_faq(path)
    assert [(e.question, e.variants) for e in entries] == [("How?", ("In what way?",))]


def test_a_folder_and_a_glob_are_read(tmp_path: Path) -> None:
    _write(tmp_path, "a.csv", FORMATS["a.csv"])
    _write(tmp_path, "b.jsonl", json.dumps({"question": "Where?", "answer": "Here."}))
    assert len(read_faq(tmp_path)) == 2
    assert len(read_faq(tmp_path / "*.csv")) == 1


@pytest.mark.parametrize(
    ("name", "body", "wanted"),
    [
        ("a.csv", "questoin,answer\nx,y\n", r"a\.csv:2: there is no column 'question'.*questoin"),
        ("a.csv", "question,answer\nx,y\n\nz,\n", r"a\.csv:4: the answer is empty"),
        ("a.csv", "question,answer\n,y\n", r"a\.csv:2: the question is empty"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "question,answer\n", "no entries found"),
        ("a.csv", b"\x00\x01\x02binary", "binary file"),
        ("a.csv", "id,question,answer\nx,q,a\nx,r,b\n", r"a\.csv:3: the id 'x' has another answer"),
        ("a.csv", "question,answer,valid_until\nq,a,soon\n", r"a\.csv:2: valid_until 'soon'"),
        ("a.csv", "question,answer,url\nq,a,javascript:x\n", r"a\.csv:2: the url"),
        ("a.csv", "question,answer\nq," + "x" * 20_001 + "\n", r"a\.csv:2: the answer has 20001"),
        ("a.csv", "question,answer\n" + "x" * 2_001 + ",a\n", r"a\.csv:2: the question has 2001"),
        ("a.json", '[\n{"question": "q",\n]', r"a\.json:3: not valid JSON"),
        ("a.jsonl", '{"question": "q", "answer": "a"}\n[1]\n', r"a\.jsonl:2: an entry must be"),
        ("a.yaml", "- question: [\n", r"a\.yaml:\d: not valid YAML"),
        ("a.xlsx", "no workbook", "not a readable XLSX"),
        ("a.docx", "x", "unknown format"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(
    tmp_path: Path, name: str, body: str | bytes, wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted):
        read_faq(_write(tmp_path, name, body))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        read_faq(tmp_path / "none.csv")


def test_an_answer_of_20000_characters_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "question,answer\nq," + "x" * 20_000 + "\n")
    assert len(read_faq(path)[0].answer) == 20_000


def test_100000_rows_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("question,answer\n")
        for number in range(100_000):
            file.write(f"What is number {number}?,It is {number} and a little more text.\n")
    tracemalloc.start()
    count = sum(1 for _ in iter_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 20e6


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.binary(max_size=200), st.sampled_from(sorted({Path(n).suffix for n in FORMATS})))
def test_any_bytes_are_read_or_refused(tmp_path: Path, body: bytes, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(body)
    try:
        assert read_faq(path)
    except InputError as error:
        assert path.name in str(error)


def test_a_file_of_examples_adds_wordings_to_another(tmp_path: Path) -> None:
    faq, more = tmp_path / "faq.csv", tmp_path / "examples.csv"
    faq.write_text("id,question,answer\npay,How can I pay?,By card.\n")
    more.write_text("id,question,answer\npay,do you take cards,\n")
    [entry] = read_faq(faq, more)
    assert (entry.questions, entry.answer) == (("How can I pay?", "do you take cards"), "By card.")
    with pytest.raises(InputError, match=r"examples.csv:2: .*no entry before it has the id 'pay'"):
        read_faq(more, faq)
    more.write_text("id,question,answer\npay,do you take cards,No.\n")
    with pytest.raises(InputError, match="has another answer"):
        read_faq(faq, more)

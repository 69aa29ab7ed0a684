from pathlib import Path

import pytest
from click.testing import CliRunner
from featherdesk.compress.corpora import load_topics, split_topics
from featherdesk.compress.dataset import load
from featherdesk.compress.mixture import HELD_OUT, main, mixture

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_no_row_is_about_a_held_out_topic_and_validation_is_about_nothing_else(
    tmp_path: Path,
) -> None:
    names = {topic.name for topic in split_topics(load_topics())[1]}
    assert 40 < len(names) < len(load_topics()) / 4
    arguments = ["--out", str(tmp_path / "a.jsonl"), "--validation", str(tmp_path / "b.jsonl")]
    done = CliRunner().invoke(main, [*arguments, "--count", "200"])
    assert done.exit_code == 0, done.output
    assert not {row.group for row in load(tmp_path / "a.jsonl")} & names
    assert {row.group for row in load(tmp_path / "b.jsonl")} <= names


@pytest.mark.needs_shared
def test_every_source_gives_rows_and_no_held_out_business_is_among_them() -> None:
    rows = mixture(SHARED, 400, 3)
    sources = {row.source for row in rows}
    assert sources == {"topics", "dstc9", "bitext", "banking77", "clinc150"}
    about = {row.group.rpartition("/")[0] for row in rows if row.source == "dstc9"}
    assert about
    assert not about & set(HELD_OUT)

from pathlib import Path

import pytest
from featherdesk.agent.artifacts import Manifest, atomic_folder, place, seal, verify
from featherdesk.agent.errors import ArtifactError, FeatherdeskError


def _manifest() -> Manifest:
    return Manifest("b", "base", "h", "a", "c", ("en",), "e", 1, ("en",))


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bot"
    (folder / "knowledge").mkdir(parents=True)
    (folder / "knowledge" / "x.json").write_text("{}")
    return folder


def test_a_sealed_folder_verifies_and_reads_back(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    sealed = seal(folder, _manifest())
    assert Manifest.load(folder) == sealed
    verify(folder, sealed)


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    sealed = seal(folder, _manifest())
    (folder / "knowledge" / "x.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"knowledge/x\.json was changed"):
        verify(folder, sealed)


def test_of_several_changed_files_the_first_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    for name in "abcdefgh":
        (folder / name).write_text(name)
    sealed = seal(folder, _manifest())
    verify(folder, sealed)
    for name in "gce":
        (folder / name).write_text("changed")
    with pytest.raises(ArtifactError, match="bot: c was changed"):
        verify(folder, sealed)


def test_a_missing_file_and_a_missing_manifest_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    sealed = seal(folder, _manifest())
    (folder / "knowledge" / "x.json").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        verify(folder, sealed)
    with pytest.raises(ArtifactError, match="not a bot folder"):
        Manifest.load(tmp_path)


def test_a_path_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (tmp_path / "secret").write_text("s")
    seal(folder, _manifest())
    text = (folder / "manifest.json").read_text().replace("knowledge/x.json", "../secret")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="outside"):
        verify(folder, Manifest.load(folder))


def test_another_schema_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    seal(folder, _manifest())
    text = (folder / "manifest.json").read_text().replace('"schema": 2', '"schema": 9')
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match="schema 9"):
        Manifest.load(folder)


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as fresh:
        (fresh / "new").write_text("new")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (target / "old").exists()


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FeatherdeskError, match="No space left"), atomic_folder(tmp_path / "o"):
        raise OSError(28, "No space left on device")


def test_place_copies_trees(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    place(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / "knowledge" / "x.json").read_text() == "{}"


def test_only_the_report_and_the_manifest_at_the_top_are_not_hashed(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "report")
    for name in ("report", "knowledge/report"):
        (folder / name).mkdir()
        (folder / name / "x.json").write_text("{}")
    (folder / "knowledge" / "manifest.json").write_text("{}")
    told = seal(folder, _manifest())
    assert sorted(told.files) == [
        "knowledge/manifest.json",
        "knowledge/report/x.json",
        "knowledge/x.json",
    ]
    (folder / "report" / "x.json").write_text("[]")
    verify(folder, told)

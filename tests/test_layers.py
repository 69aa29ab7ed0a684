"""Who may import whom, and what an import may pull in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY = {"agent": {"agent"}, "compress": {"compress", "agent"}, "serve": {"serve", "agent"}}


def _imports(path: Path) -> set[str]:
    """The packages of ours that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found.add(path.parent.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 2:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featherdesk."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found.update(
                a.name.split(".")[1] for a in node.names if a.name.startswith("featherdesk.")
            )
    return found


@pytest.mark.parametrize("package", sorted(MAY))
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in (ROOT / package).glob("*.py"):
        assert _imports(path) <= MAY[package] | {""}, path.name


def test_the_packages_are_flat() -> None:
    for package in MAY:
        assert not [p for p in (ROOT / package).rglob("*.py") if p.parent != ROOT / package]


def test_only_the_root_folders_of_the_design_exist() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        return
    allowed = {
        "agent",
        "compress",
        "serve",
        "tests",
        "models",
        "docs",
        "examples",
        "pyproject.toml",
        "README.md",
        "__init__.py",
        "Makefile",
        "constraints.txt",
        "CHANGELOG.md",
        "LICENSE",
    }
    names = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= allowed


def _loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


HEAVY = {"torch", "transformers", "sklearn", "spacy", "gradio", "optimum", "peft"}


def test_importing_featherdesk_loads_nothing_heavy() -> None:
    assert not HEAVY & _loaded_by("import featherdesk")


def test_help_loads_nothing_heavy_and_costs_little() -> None:
    code = (
        "import resource, contextlib, io\nfrom featherdesk.agent.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('cpu', used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, modules = done.stdout.split("\n")[:2]
    assert not HEAVY & {name.split(".")[0] for name in modules.split()}
    assert float(cpu.split()[1]) < 0.5


def test_the_engine_and_the_api_load_no_torch() -> None:
    code = "import featherdesk.agent.engine, featherdesk.serve.api, featherdesk.serve.live"
    assert not HEAVY & _loaded_by(code)


def test_the_mcp_server_needs_no_page() -> None:
    assert not HEAVY & _loaded_by("import featherdesk.serve.mcp_server, featherdesk.serve.live")


def test_every_public_name_loads() -> None:
    import featherdesk

    for name in featherdesk.__all__:
        assert getattr(featherdesk, name) is not None


def test_one_onnxruntime_is_installed() -> None:
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> bool:
        try:
            version(name)
        except PackageNotFoundError:
            return False
        return True

    assert not (installed("onnxruntime") and installed("onnxruntime-gpu"))

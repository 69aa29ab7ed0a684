import os
import shutil
from pathlib import Path

import pytest
from featherdesk.compress.compiler import can_compile


def test_without_a_compiler_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not can_compile(said.append)
    assert len(said) == 1
    assert "no C++ compiler (no-such-compiler)" in said[0]
    assert "uncompiled" in said[0]


def test_the_one_that_is_named_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "my-c++"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CXX", "my-c++")
    said: list[str] = []
    assert shutil.which("my-c++")
    assert can_compile(said.append)
    assert not said

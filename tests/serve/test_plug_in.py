"""What docs/plug-in.md tells people to copy works as it stands there."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.config import load_config

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "plug-in.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_settings_and_client_configurations_are_readable(tmp_path: Path) -> None:
    for block in _blocks("json"):
        assert json.loads(block)["mcpServers"]["acme"]
    for block in _blocks("toml"):
        assert tomllib.loads(block)
        (tmp_path / "bot.toml").write_text(block, encoding="utf-8")
        assert load_config(tmp_path / "bot.toml", environment={}).page.embed_origins


def test_every_attribute_of_the_tag_is_one_the_script_reads() -> None:
    script = (Path(__file__).resolve().parents[2] / "serve" / "embed.js").read_text("utf-8")
    told = set(re.findall(r"`data-(\w+)=", TEXT))
    assert told == set(re.findall(r"settings\.(\w+)", script))


@pytest.mark.end_to_end
@pytest.mark.parametrize("place", range(4))
def test_the_python_examples_run(place: int, shop: Path, server: Any, mcp_url: str) -> None:
    code = _blocks("python")[place]
    for there, here in (
        ("acme/bot", str(shop)),
        ("http://localhost:7860", server.url),
        ("http://localhost:7861/mcp", mcp_url),
    ):
        code = code.replace(there, here)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deliver" in done.stdout.lower()


def test_no_python_example_is_left_out() -> None:
    assert len(_blocks("python")) == 4

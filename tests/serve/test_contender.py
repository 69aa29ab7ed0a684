import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.serve.child import command_of, opened
from featherdesk.serve.contender import Marks, Ours
from featherdesk.serve.prompts import Gathered, gather

from .tiny_bot import SAYS


@pytest.fixture(scope="module")
def gathered(tiny_bot: Path) -> Gathered:
    return gather(tiny_bot, None, 4)


def _settings(bot: Path, **changed: Any) -> dict[str, Any]:
    told = {"store": True, "lookup": True, "threads": 1, "device": "cpu", "stored_mb": 50.0}
    return {"bot": str(bot), **told, **changed}


def test_our_rows_say_the_same_and_feed_less(tiny_bot: Path, gathered: Gathered) -> None:
    order = gathered.prompts[0].order()
    both = Ours(_settings(tiny_bot)).write(order)
    unread = Ours(_settings(tiny_bot, store=False)).write(order)
    plain = Ours(_settings(tiny_bot, lookup=False)).write(order)
    neither = Ours(_settings(tiny_bot, store=False, lookup=False)).write(order)
    for told in (both, unread, plain, neither):
        assert told.text == SAYS
        assert told.tokens == len(SAYS)
        assert told.ended
        assert 0 < told.first <= told.whole
    assert (both.hits, both.misses) == (len(order["blocks"]), 0)
    assert (unread.hits, neither.hits) == (0, 0)
    assert neither.steps == len(SAYS) + 1  # the last one finds the end of the turn
    assert both.steps < plain.steps == neither.steps
    assert both.opening > plain.opening == neither.opening == 1
    stored = sum(order["blocks"])
    assert neither.fed == len(order["ids"]) + len(SAYS)
    assert plain.fed == neither.fed - stored


def test_a_child_answers_over_its_pipe(tiny_bot: Path, gathered: Gathered) -> None:
    prompt = gathered.prompts[0]
    with opened("runtime", command_of("ours"), _settings(tiny_bot)) as child:
        assert child.told.info.startswith("onnxruntime ")
        assert child.write(prompt).text == SAYS
        assert tuple(child.tokens(prompt.texts[0])) == prompt.parts[0]
        pace = child.call("pace", [1, 4])
        assert set(pace) == {"1", "4"}
        assert all(value > 0 for value in pace.values())
        pid = child.pid
    assert not Path(f"/proc/{pid}").exists()


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "generator").mkdir()
    with (
        pytest.raises(FeatherdeskError, match=r"runtime: .*is not a generator folder"),
        opened("runtime", command_of("ours"), _settings(tmp_path, store=False)),
    ):
        pass


def test_a_missing_peer_names_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['llama_cpp'] = None; sys.argv = ['', 'llama']\n"
    code += "import runpy; runpy.run_module('featherdesk.serve.contender', run_name='__main__')"
    with (
        pytest.raises(FeatherdeskError, match=r"llama_cpp.*pip install 'featherdesk\[peer\]'"),
        opened("llama.cpp", [sys.executable, "-c", code], {"model": "x.gguf"}),
    ):
        pass


def test_a_child_imports_no_torch() -> None:
    code = "import sys, featherdesk.serve.contender, featherdesk.serve.peers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "llama_cpp", "gradio", "matplotlib"}


def test_an_answer_without_a_token_is_its_end() -> None:
    told = Marks().written("", 8)
    assert told.tokens == 0
    assert told.ended
    assert 0 < told.first == told.whole

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import pytest
from featherdesk.agent.errors import FeatherdeskError
from featherdesk.serve.child import Child, opened
from featherdesk.serve.prompts import Prompt
from featherdesk.serve.sweep import Setting, fastest, grid, refined, sweep

from ..tiny_llama import make_tokenizer
from .tiny_bot import SAYS

FAKE = [sys.executable, str(Path(__file__).with_name("fake_peer.py"))]
PROMPTS = [Prompt(str(n), "?", (), (5,) * (10 + n), ("x",), (), (), 8) for n in range(3)]
Enter = Callable[[Setting], AbstractContextManager[Child]]


@pytest.fixture
def enter_of(tmp_path: Path) -> Callable[..., Enter]:
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))

    def make(**told: object) -> Enter:
        model = tmp_path / "model.json"
        model.write_text(
            json.dumps({"tokenizer": str(tmp_path / "tokenizer.json"), "says": SAYS, **told})
        )
        return lambda one: opened("peer", FAKE, {**asdict(one), "model": str(model)})

    return make


def test_the_grid_holds_every_combination() -> None:
    settings = grid(2)
    assert len(set(settings)) == len(settings) == 2 * 3 * 2
    assert {one.threads for one in grid(16)} == {1, 2, 3, 4, 8, 16}
    best = Setting(threads=2)
    assert len(refined([best, best])) == 3
    assert "flash attention" in refined([best])[-1].name


def test_the_fastest_is_chosen_by_measure(enter_of: Callable[..., Enter]) -> None:
    swept = sweep([one for one in grid(2) if one.threads == 2], PROMPTS, enter_of())
    chosen = fastest(swept)
    assert chosen["first"] == Setting(False, "ram", 2)
    assert chosen["decode"].lookup
    assert chosen["whole"] == min(swept, key=lambda one: one.whole_ms).setting
    assert chosen["whole"] == Setting(True, "ram", 2)
    assert all(one.first_ms < one.whole_ms for one in swept)


def test_a_setting_that_fails_is_told_and_not_chosen(enter_of: Callable[..., Enter]) -> None:
    enter = enter_of(broken=["cache", "ram"])
    swept = sweep([Setting(cache="ram"), Setting(cache="off")], PROMPTS, enter, warm=PROMPTS[0])
    assert [one.failed for one in swept] == ["peer: no cache here", ""]
    assert fastest(swept)["first"].cache == "off"
    with pytest.raises(FeatherdeskError, match="no cache here"):
        sweep([Setting(cache="ram")], PROMPTS, enter)


def test_a_peer_that_dies_is_named(enter_of: Callable[..., Enter]) -> None:
    with (
        enter_of(dies=1)(Setting()) as child,
        pytest.raises(FeatherdeskError, match="peer: its process ended with 3"),
    ):
        child.write(PROMPTS[0])
        child.write(PROMPTS[0])

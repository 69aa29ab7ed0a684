"""The script that damages bots: what the files tell of each, and that the graphs say otherwise."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from featherdesk.agent.artifacts import Manifest, verify
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress.inspection import inspect

TEMPLATE = "wrong chat template: its tokenizer reads <|im_end|>, <|im_start|> as text"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        return importlib.import_module("make_damaged")


@pytest.fixture(scope="module")
def damaged(script: ModuleType, shop_bot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damaged")
    done = CliRunner().invoke(script.main, [str(shop_bot), str(out), "--layer", "1"])
    assert done.exit_code == 0, done.output
    assert len(list(out.iterdir())) == 4
    return out


def test_what_the_files_tell_is_the_damage_and_nothing_else(shop_bot: Path, damaged: Path) -> None:
    told = {one.name: inspect(shop_bot, one) for one in damaged.iterdir()}
    assert [reason.partition(", not")[0] for reason in told["template"]] == [
        TEMPLATE,
        "wrong chat template: chat_template.jinja is another",
    ]
    assert told["end"] == [
        "wrong end token: its turns end with '<|endoftext|>', the parent's with '<|im_end|>'"
    ]
    assert told["zeroed"] == told["scrambled"] == []  # the gate must ask these two


def _logits(bot: Path) -> np.ndarray:
    verify(bot, Manifest.load(bot))  # its hashes are right: no broken copy, another model
    generator = OnnxGenerator(bot / "generator", 1)
    return generator.logits(generator.encode("How long does delivery take?"))


def test_damaged_graphs_load_and_say_something_else(shop_bot: Path, damaged: Path) -> None:
    whole = _logits(shop_bot)
    for name in ("zeroed", "scrambled"):
        told = _logits(damaged / name)
        assert np.isfinite(told).all()
        assert (told.argmax(-1) == whole.argmax(-1)).mean() < 0.8, name


def test_a_zeroed_layer_adds_nothing(
    script: ModuleType, damaged: Path, roomy: Path, tmp_path: Path
) -> None:
    from featherdesk.compress.architecture import open_model, save_model
    from featherdesk.compress.export import Quantization, export
    from featherdesk.compress.layers import without_layers

    save_model(without_layers(open_model(roomy), [1]), roomy, tmp_path / "shorter")
    export(tmp_path / "shorter", tmp_path / "g", Quantization())
    generator = OnnxGenerator(tmp_path / "g", 1)
    wanted = generator.logits(generator.encode("How long does delivery take?"))
    assert np.abs(_logits(damaged / "zeroed") - wanted).max() < 1e-3


def test_a_layer_that_is_not_there_is_told(
    script: ModuleType, shop_bot: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(script.main, [str(shop_bot), str(tmp_path / "out"), "--layer", "7"])
    assert "has no int4 matrices in layer 7" in str(done.exception)

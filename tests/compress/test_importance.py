"""What is cut depends on what the bot is asked: other questions, another choice.

The model has two halves: one moves only for digits, the other only for letters. The rest is idle.
"""

import random
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from featherdesk.compress.architecture import layers_of, open_model, save_model
from featherdesk.compress.channels import PruneChannels
from featherdesk.compress.heads import PruneHeads
from featherdesk.compress.layers import RemoveLayers
from featherdesk.compress.material import Material
from featherdesk.compress.model import load_tokenizer
from featherdesk.compress.steps import Task

from .conftest import task_of

DIGIT, LETTER = 0, 1
"""The dimensions of the states that say what a token is; nothing in the model writes to them."""


def _reads(part: torch.nn.Module, dimension: int, rows: slice = slice(None)) -> None:
    """Let the rows of a matrix see one dimension alone."""
    seen = part.weight[rows, dimension].clone()
    part.weight[rows] = 0
    part.weight[rows, dimension] = seen


@torch.no_grad()
def _two_minds(lively: Path, out: Path) -> Path:
    """Layer 1 and the first half of layer 0 move for digits, layer 2 and the second for letters."""
    model: Any = open_model(lively)
    digits = [load_tokenizer(lively).token_to_id(one) for one in string.digits]
    words = model.get_input_embeddings().weight
    words *= 0.2
    words[:, [DIGIT, LETTER]] = torch.tensor([0.0, 1.0])
    words[digits, DIGIT], words[digits, LETTER] = 1.0, 0.0
    for number, layer in enumerate(layers_of(model)):
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            part.weight[[DIGIT, LETTER]] = 0
            if number == 3 or (number and part is layer.self_attn.o_proj):
                part.weight.zero_()
    first, second, third, _ = layers_of(model)
    for part in (first.mlp.gate_proj, first.mlp.up_proj, first.self_attn.v_proj):
        half = len(part.weight) // 2
        _reads(part, DIGIT, slice(half))
        _reads(part, LETTER, slice(half, None))
    for layer, dimension in ((second, DIGIT), (third, LETTER)):
        for part in (layer.mlp.gate_proj, layer.mlp.up_proj):
            _reads(part, dimension)
    save_model(model, lively, out)
    return out


@pytest.fixture(scope="module")
def minded(lively: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _two_minds(lively, tmp_path_factory.mktemp("minded") / "model")


def _asked(model: Path, letters: str, folder: Path) -> Task:
    """A task whose texts hold nothing but these letters."""
    rng = random.Random(3)
    texts = tuple("".join(rng.choices(letters, k=80)) for _ in range(24))
    return replace(task_of(model, folder, 8), material=Material((), (), texts))


ASKED = [(string.digits, DIGIT), (string.ascii_letters, LETTER)]


@pytest.mark.parametrize("by", ["answers", "influence"])
@pytest.mark.parametrize(("letters", "half"), ASKED)
def test_the_layer_that_the_questions_need_stays(
    minded: Path, tmp_path: Path, by: str, letters: str, half: int
) -> None:
    told = RemoveLayers(2, by).run(minded, tmp_path / "out", _asked(minded, letters, tmp_path))
    unneeded = 2 if half == DIGIT else 1
    assert sorted(told["removed"]) == [unneeded, 3]  # layer 3 does nothing at all


@pytest.mark.parametrize(("letters", "half"), ASKED)
def test_the_channels_that_the_questions_need_stay(
    minded: Path, tmp_path: Path, letters: str, half: int
) -> None:
    task = _asked(minded, letters, tmp_path)
    PruneChannels(64, compensate=False).run(minded, tmp_path / "out", task)
    before, after = (
        layers_of(open_model(folder))[0].mlp.up_proj.weight for folder in (minded, tmp_path / "out")
    )
    assert torch.equal(after, before[64 * half : 64 * half + 64])


@pytest.mark.parametrize(("letters", "half"), ASKED)
def test_the_group_that_the_questions_need_stays(
    minded: Path, tmp_path: Path, letters: str, half: int
) -> None:
    task = _asked(minded, letters, tmp_path)
    told = PruneHeads(1, compensate=False).run(minded, tmp_path / "out", task)
    assert told["kept"][0] == [half]

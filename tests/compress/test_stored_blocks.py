"""Stored blocks in the runtime: what a graph says with them is what torch says of block attention."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from featherdesk.agent.blocks import BlockStore
from featherdesk.agent.lookup import Pace
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.compress.architecture import open_model
from featherdesk.compress.dataset import Encoded
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.forward import batch_of

from .conftest import kin

BLOCKS = ([7, 8, 9], [20, 21, 22, 23, 24], [40, 41, 42, 43])
QUESTION = [60, 61, 62]
IDS = [token for block in (*BLOCKS, QUESTION) for token in block]
LENGTHS = [len(block) for block in BLOCKS]


def _torch_says(model: Path) -> torch.Tensor:
    """Probabilities behind the question when every block sees only itself."""
    n = len(IDS)
    segments = [number for number, block in enumerate(BLOCKS) for _ in block] + [-1] * len(QUESTION)
    encoded = Encoded(
        np.array(IDS),
        np.arange(n),
        np.full(n, -100),
        np.zeros(n, np.int64),
        np.array(segments),
        np.ones(n, bool),
    )
    batch = batch_of([encoded], n)
    told = open_model(model)(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.bias
    )
    return torch.softmax(told.logits[0, -1].float(), -1)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
def test_stored_blocks_say_what_block_attention_says(kind: str, tiny: Path, tmp_path: Path) -> None:
    model = kin(kind, tiny, tmp_path / "m")
    export(model, tmp_path / "g", Quantization("fp32"))
    store = BlockStore(10**8)
    generator = OnnxGenerator(tmp_path / "g", 1, store=store)
    wanted = _torch_says(model).detach().numpy()
    everything = list(range(len(wanted)))
    for hits in (0, 3):  # computed, then taken from the store
        told = generator.first(IDS, everything, LENGTHS)
        assert np.abs(told - wanted).max() < 1e-3
        assert store.hits == hits
    whole = OnnxGenerator(tmp_path / "g", 1).first(IDS, everything)
    assert np.abs(whole - wanted).max() > np.abs(told - wanted).max()


def test_generation_goes_on_behind_stored_blocks(talkative: Path, tmp_path: Path) -> None:
    export(talkative, tmp_path / "g", Quantization("fp32"))
    generator = OnnxGenerator(tmp_path / "g", 1, store=BlockStore(10**8))

    def says() -> list[int]:
        steps = generator.generate(
            IDS,
            max_tokens=12,
            deadline=time.monotonic() + 60,
            stopped=lambda: False,
            blocks=LENGTHS,
        )
        return [step.token for step in steps]

    first = says()
    assert says() == first
    assert len(first) > 2


def test_a_folder_that_does_not_tell_its_angles_reads_everything(
    tiny: Path, tmp_path: Path
) -> None:
    export(tiny, tmp_path / "g", Quantization("fp32"))
    (tmp_path / "g" / "rotary.json").unlink()
    store = BlockStore(10**8)
    generator = OnnxGenerator(tmp_path / "g", 1, store=store)
    told = generator.first(IDS, range(50), LENGTHS)
    assert np.allclose(told, OnnxGenerator(tmp_path / "g", 1).first(IDS, range(50)))
    assert len(store) == 0


@pytest.mark.parametrize("stored", [False, True])
def test_guesses_change_no_answer(stored: bool, talkative: Path, tmp_path: Path) -> None:
    export(talkative, tmp_path / "g", Quantization("fp32"))

    def says(sources: list[list[int]]) -> tuple[list[int], int]:
        generator = OnnxGenerator(tmp_path / "g", 1, store=BlockStore(10**8) if stored else None)
        passes = generator.scheduler.tally
        steps = generator.generate(
            IDS,
            max_tokens=24,
            deadline=time.monotonic() + 60,
            stopped=lambda: False,
            blocks=LENGTHS,
            sources=sources,
        )
        return [step.token for step in steps], passes.passes

    plain, steps = says([])
    assert len(plain) > 8
    for sources in ([plain], [[1, 2, 3], plain[3:]], [plain[:6] + [5] * 6], [[9] * 40]):
        assert says([list(source) for source in sources])[0] == plain
    assert says([plain])[1] < steps - 4


def test_what_passes_take_is_learned_from(
    talkative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much a guess costs is measured on this machine: in passes that read no prompt."""
    seen: list[tuple[int, float]] = []
    monkeypatch.setattr(Pace, "timed", lambda _, *told: seen.append(told))
    export(talkative, tmp_path / "g", Quantization("fp32"))
    generator = OnnxGenerator(tmp_path / "g", 1)

    def says(sources: list[list[int]]) -> list[int]:
        until = time.monotonic() + 60
        steps = generator.generate(
            IDS, max_tokens=24, deadline=until, stopped=lambda: False, sources=sources
        )
        return [step.token for step in steps]

    plain = says([])
    assert len(seen) == generator.scheduler.tally.passes - 1  # all but the prompt's
    assert says([plain]) == plain
    assert max(tokens for tokens, _ in seen) > 1
    assert all(0 < seconds < 60 for _, seconds in seen)


def test_what_stands_in_the_prompt_is_guessed_from_too(tiny: Path, tmp_path: Path) -> None:
    """The history of a conversation is part of the prompt; this model says again what it read
    last."""
    export(tiny, tmp_path / "g", Quantization("fp32"))

    def says(sources: list[list[int]]) -> tuple[list[int], int]:
        generator = OnnxGenerator(tmp_path / "g", 1)
        steps = generator.generate(
            [*IDS, *[62] * 12],
            max_tokens=24,
            deadline=time.monotonic() + 60,
            stopped=lambda: False,
            sources=sources,
        )
        return [step.token for step in steps], generator.scheduler.tally.passes

    plain, steps = says([])
    assert plain == [62] * 24
    told, fewer = says([[1, 2, 3]])
    assert told == plain
    assert fewer < steps - 4

import threading
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.blocks import Block, BlockStore, Rotary, block_key
from featherdesk.agent.errors import ArtifactError
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RNG = np.random.default_rng(0)


def _some(tokens: int) -> Block:
    keys, values = (RNG.normal(size=(2, 3, tokens, 8)).astype(np.float32) for _ in range(2))
    return Block.of(keys, values)


@pytest.mark.parametrize("interleaved", [False, True])
def test_turning_twice_is_turning_by_the_sum(interleaved: bool) -> None:
    frequencies = np.array([[1.0, 0.1, 0.01, 0.001]] * 2, np.float32)
    rotary = Rotary(frequencies, interleaved)
    keys = RNG.normal(size=(2, 3, 5, 8)).astype(np.float32)
    plain, many = np.ones((2, 3, 1, 8), np.float32), np.arange(1, 9, dtype=np.float32)

    def turned(keys: Floats, offset: int, scales: Floats = plain) -> Floats:
        out = np.full((2, 3, 9, 8), np.nan, np.float32)[:, :, 2:7]  # as places of a row are
        rotary.turn(keys, scales, offset, out)
        return out

    assert np.allclose(turned(turned(keys, 7), 30), turned(keys, 37), atol=1e-5)
    assert np.allclose(turned(keys, 0), keys)
    assert np.allclose(turned(keys, 5, plain * many), turned(keys * many, 5), atol=1e-5)
    lengths = np.linalg.norm(keys, axis=-1)
    assert np.allclose(np.linalg.norm(turned(keys, 99), axis=-1), lengths, atol=1e-5)


def test_eight_bits_are_near() -> None:
    keys, values = (RNG.normal(size=(2, 3, 40, 8)).astype(np.float32) for _ in range(2))
    found = np.empty((2, 2, 3, 40, 8), np.float32)
    Block.of(keys, values).put(Rotary(np.ones((2, 4), np.float32)), 0, found[0], found[1])
    for near, exact in zip(found, (keys, values), strict=True):
        assert np.abs(near - exact).max() < 0.02 * np.abs(exact).max()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    blocks = {block_key([n]): _some(n + 1) for n in range(5)}
    size = BlockStore.write(tmp_path, blocks.items())
    assert size == sum(block.size for block in blocks.values())
    store = BlockStore(10**9, tmp_path)
    for key, block in blocks.items():
        found = store.get(key)
        assert found is not None
        for one, other in zip(found.parts, block.parts, strict=True):
            assert np.array_equal(one, other)
    assert store.get("none") is None
    assert (store.hits, store.misses) == (5, 1)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert f"{tmp_path}/blocks.bin" in maps.read_text()  # mapped, not read into memory


def test_no_blocks_are_a_folder_too(tmp_path: Path) -> None:
    BlockStore.write(tmp_path, [])
    assert len(BlockStore(10, tmp_path)) == 0
    assert len(BlockStore(10, tmp_path / "none")) == 0


def test_what_was_asked_for_longest_ago_goes_first(tmp_path: Path) -> None:
    BlockStore.write(tmp_path, [("mapped", _some(4))])
    one = _some(4)
    store = BlockStore(3 * one.size, tmp_path)
    store.add("a", one)
    store.add("b", one)
    assert store.get("a") is one
    store.add("c", one)
    assert store.get("b") is None
    assert store.get("a") is one
    assert store.get("mapped") is not None


def test_a_block_larger_than_the_budget_is_not_kept() -> None:
    store = BlockStore(10)
    store.add("a", _some(4))
    assert len(store) == 0


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    BlockStore.write(tmp_path, [("a", _some(4))])
    data = (tmp_path / "blocks.bin").read_bytes()
    (tmp_path / "blocks.bin").write_bytes(data[:-8])
    with pytest.raises(ArtifactError, match="build the bot anew"):
        BlockStore(10, tmp_path)
    (tmp_path / "blocks.json").write_text("{")
    with pytest.raises(ArtifactError, match="build the bot anew"):
        BlockStore(10, tmp_path)


def test_threads_share_a_store() -> None:
    one = _some(4)
    store = BlockStore(5 * one.size)

    def work(number: int) -> None:
        for n in range(200):
            store.add(str((number * 7 + n) % 20), one)
            store.get(str(n % 20))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) <= 5
    assert store.hits + store.misses == 1600

import numpy as np
import pytest
import torch
from featherdesk.compress.nbits import blocks_of, restored
from featherdesk.compress.precision import Quantization
from featherdesk.compress.rounding import rounded


def _matrix(rows: int = 12, columns: int = 200) -> np.ndarray:
    rng = np.random.default_rng(5)
    found = rng.normal(size=(rows, columns)) * np.exp(rng.normal(size=(rows, 1)))
    return np.asarray(found, np.float32)


@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_export_rounds_as_healing_does(block_size: int, bits: int) -> None:
    weight = _matrix()
    blocks = blocks_of(weight, bits, Quantization(block_size=block_size))
    wanted = rounded(torch.from_numpy(weight), block_size, bits).numpy()
    step = blocks.scales.max()
    assert np.abs(restored(blocks) - wanted).mean() < 1e-3 * step
    assert np.abs(restored(blocks) - weight).max() <= step * 0.51


def test_an_odd_number_of_blocks_keeps_its_zero_points() -> None:
    """Hidden 576 in blocks of 64 makes nine: two zero points a byte, and half a byte over."""
    weight = _matrix(columns=9 * 64) + np.linspace(-1, 1, 9 * 64, dtype=np.float32)
    for algorithm in ("rtn", "k_quant"):
        blocks = blocks_of(weight, 4, Quantization(block_size=64, algorithm=algorithm))
        assert blocks.zeros is not None
        assert blocks.zeros.shape == (12, 5)
        assert np.abs(restored(blocks) - weight).mean() < blocks.scales.mean() / 2


@pytest.mark.parametrize("algorithm", ["rtn", "k_quant"])
def test_blocks_of_one_sign_are_not_lost(algorithm: str) -> None:
    weight = np.abs(_matrix()) + 1
    weight[3] *= -1
    weight[4] = 0.25
    blocks = blocks_of(weight, 4, Quantization(block_size=16, algorithm=algorithm))
    assert np.abs(restored(blocks) - weight).max() < blocks.scales.max()


def test_k_quant_leaves_less_error_than_the_nearest() -> None:
    weight = _matrix(64, 512)
    error = {
        name: float(
            ((restored(blocks_of(weight, 4, Quantization(algorithm=name))) - weight) ** 2).sum()
        )
        for name in ("rtn", "k_quant")
    }
    assert error["k_quant"] < error["rtn"]


def test_symmetric_blocks_have_no_zero_points() -> None:
    blocks = blocks_of(_matrix(), 4, Quantization(symmetric=True))
    assert blocks.zeros is None
    assert np.abs(restored(blocks) - _matrix()).max() <= np.abs(blocks.scales).max() * 1.01

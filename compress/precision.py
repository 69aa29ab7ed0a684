"""How an exported graph keeps its weights: the settings, checked. Knows nothing of graphs."""

import re
from dataclasses import dataclass
from enum import StrEnum

from ..agent.errors import ConfigError
from .settings import one_of

__all__ = ["Precision", "Quantization"]

BLOCKS = (16, 32, 64, 128)
ALGORITHMS = ("rtn", "k_quant")
PROVIDERS = ("cpu", "cuda")
_BITS = {"int4": 4, "int8": 8}
_LAYER = re.compile(r"\blayers\.(\d+)\b")


class Precision(StrEnum):
    """The weights of the exported graph."""

    INT4 = "int4"
    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the weights of a graph are kept.

    Matrices are rounded in blocks of `block_size` along their input, with a zero point unless
    `symmetric`; `algorithm` is `rtn` (round to nearest) or `k_quant` (in each block the better of
    that and a scale by least squares, after llama.cpp; slow). `head` is another precision for the
    output head and for the word vectors that share its matrix; `finer` are layers kept in int8
    where the rest is int4. `kv` int8 keeps keys and values in a byte each. `provider` is what runs
    the graph: cpu or cuda.
    """

    precision: str = "int4"
    block_size: int = 32
    symmetric: bool = False
    algorithm: str = "rtn"
    head: str = ""
    finer: tuple[int, ...] = ()
    kv: str = ""
    provider: str = "cpu"

    def __post_init__(self) -> None:
        one_of(tuple(Precision), precision=self.precision)
        one_of(BLOCKS, block_size=self.block_size)
        one_of(ALGORITHMS, algorithm=self.algorithm)
        one_of(("", *_BITS), head=self.head)
        one_of(("", "int8"), kv=self.kv)
        one_of(PROVIDERS, provider=self.provider)
        if not self.rounds and (self.head or self.finer):
            raise ConfigError(f"{self.precision} rounds nothing: leave head and finer out")
        if self.finer and self.precision != "int4":
            raise ConfigError("finer names the int8 layers of an int4 model; take precision int4")
        if self.symmetric and self.algorithm == "k_quant":
            raise ConfigError("k_quant has zero points always: leave symmetric out, or take rtn")
        if any(not isinstance(layer, int) or layer < 0 for layer in self.finer):
            raise ConfigError(f"finer holds layer numbers, 0 upwards, not {list(self.finer)}")
        if self.provider == "cpu" and self.precision in {"fp16", "bf16"}:
            raise ConfigError(
                f"{self.precision} graphs are for GPUs: add provider cuda, or choose another"
            )
        if self.provider == "cuda" and self.precision == "fp32":
            raise ConfigError("fp32 graphs are for the CPU: take fp16 or bf16 with provider cuda")

    @property
    def rounds(self) -> bool:
        """Whether matrices are rounded to integers at all."""
        return self.precision in _BITS

    def bits(self, name: str) -> int:
        """The bits of a matrix, by its name in torch or in the graph; 0 where none are rounded."""
        if not self.rounds:
            return 0
        if "lm_head" in name:
            return _BITS[self.head or self.precision]
        layer = _LAYER.search(name)
        return 8 if layer and int(layer[1]) in self.finer else _BITS[self.precision]

    def check(self, layers: int) -> None:
        """See that the model has every layer that is named.

        Raises:
            ConfigError: a number in `finer` is past the last layer.
        """
        if self.finer and max(self.finer) >= layers:
            raise ConfigError(
                f"finer names layer {max(self.finer)}; the model has layers 0 to {layers - 1}"
            )

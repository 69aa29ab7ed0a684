"""Adapter methods and what shapes a training run; puts a trainable adapter on a base model.

LoRA: Hu et al., arXiv 2106.09685; DoRA: arXiv 2402.09353; QLoRA: arXiv 2305.14314;
AdaLoRA: arXiv 2303.10512, all through peft. Knows nothing of rows or of training.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from ..agent.errors import ConfigError
from .lowrank import fuse
from .model import load_model
from .precision import BLOCKS
from .settings import one_of

__all__ = ["Method", "TrainingConfig", "adapter_settings", "has_bf16", "with_adapter"]

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Method(StrEnum):
    """How the adapter is parametrized."""

    LORA = "lora"
    QLORA = "qlora"
    DORA = "dora"
    ADALORA = "adalora"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that shapes a run; lengths are in tokens.

    `first_layer` leaves the layers below it without adapter: nothing flows back through them.
    `batch` packed sequences of `length` run at once, `accumulate` batches make one step.
    `patience` counts evaluations without a better validation loss. `minutes` ends a run early
    (0: never). `compiled` trades two minutes at the start for faster steps. `threads` 0 takes the
    cores there are. `distil` (0 to 1) is the share of the loss that comes from the model as it
    began, which has every entry in view where a row reads them one by one. `bits` 4 rounds base and
    adapter together in blocks of `block_size`, as an int4 export of the merged model will.
    """

    method: Method = Method.LORA
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    learning_rate: float = 4e-4
    warmup_share: float = 0.03
    epochs: float = 1.0
    max_steps: int = 0
    length: int = 320
    batch: int = 3
    accumulate: int = 2
    first_layer: int = 0
    weight_decay: float = 0.0
    evaluate_every: int = 50
    patience: int = 4
    seed: int = 7
    compiled: bool = False
    threads: int = 0
    minutes: float = 0.0
    distil: float = 0.0
    bits: int = 0
    block_size: int = 32

    def __post_init__(self) -> None:
        for name in (
            "rank",
            "alpha",
            "length",
            "batch",
            "accumulate",
            "evaluate_every",
            "patience",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"finetune.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"finetune.learning_rate must be in (0, 1), not {self.learning_rate}")
        if self.epochs <= 0:
            raise ConfigError(f"finetune.epochs must be above 0, not {self.epochs}")
        if not 0 <= self.distil <= 1:
            raise ConfigError(f"finetune.distil is a share, 0 to 1, not {self.distil}")
        one_of((0, 4), bits=self.bits)
        one_of(BLOCKS, block_size=self.block_size)
        if self.bits and (self.method is not Method.LORA or self.compiled or self.dropout):
            raise ConfigError("bits goes with plain LoRA, not compiled and without dropout")


def with_adapter(
    base: Path, config: TrainingConfig, device: torch.device, start_from: Path | None, steps: int
) -> Any:
    """The base model with a trainable adapter, in bf16 where the machine has it.

    A plain LoRA adapter stays in fp32, which costs nothing in `lowrank`: what a late step changes
    is lost in bf16. A compiled model fuses by itself.
    """
    from peft import PeftModel, get_peft_model

    quantized = config.method is Method.QLORA
    dtype = torch.bfloat16 if has_bf16(device) else torch.float32
    model = load_model(base, dtype, device, four_bit=quantized)
    model.set_attn_implementation("sdpa")  # its scores are never written out
    exact = config.method is Method.LORA and not config.dropout and not config.compiled
    if start_from is not None:
        adapted = PeftModel.from_pretrained(
            model, start_from, is_trainable=True, autocast_adapter_dtype=exact
        )
    else:
        settings = adapter_settings(config, model.config.num_hidden_layers, steps)
        adapted = get_peft_model(model, settings, autocast_adapter_dtype=exact)
    if exact:
        fuse(adapted)
    return adapted


def adapter_settings(config: TrainingConfig, layers: int, steps: int) -> Any:
    """PEFT's settings of an adapter for a model of `layers`, trained for `steps`."""
    from peft import AdaLoraConfig, LoraConfig

    common: dict[str, Any] = {
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(LINEAR),
        "layers_to_transform": list(range(config.first_layer, layers)),
        "task_type": "CAUSAL_LM",
    }
    if config.method is Method.ADALORA:
        return AdaLoraConfig(
            init_r=round(config.rank * 1.5),
            target_r=config.rank,
            total_step=steps,
            tinit=max(1, steps // 10),
            tfinal=max(1, steps // 4),
            deltaT=5,
            **common,
        )
    return LoraConfig(r=config.rank, use_dora=config.method is Method.DORA, **common)


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 (AMX, AVX512-BF16, Arm's BF16).

    torch also takes it on a CPU with plain AVX-512, where it is imitated and slower than fp32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    told = torch.cpu.get_capabilities()
    native = any(told.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

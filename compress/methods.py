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
from .model import load_model

__all__ = ["Method", "TrainingConfig", "has_bf16", "with_adapter"]

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
    (0: never). `compiled` trades two minutes at the start for faster steps.
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


def with_adapter(
    base: Path, config: TrainingConfig, device: torch.device, start_from: Path | None, steps: int
) -> Any:
    """The base model with a trainable adapter, in bf16 where the machine has it."""
    from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model

    quantized = config.method is Method.QLORA
    dtype = torch.bfloat16 if has_bf16(device) else torch.float32
    model = load_model(base, dtype, device, four_bit=quantized)
    if start_from is not None:
        return PeftModel.from_pretrained(
            model, start_from, is_trainable=True, autocast_adapter_dtype=False
        )
    layers = model.config.num_hidden_layers
    common: dict[str, Any] = {
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(LINEAR),
        "layers_to_transform": list(range(config.first_layer, layers)),
        "task_type": "CAUSAL_LM",
    }
    if config.method is Method.ADALORA:
        settings = AdaLoraConfig(
            init_r=round(config.rank * 1.5),
            target_r=config.rank,
            total_step=steps,
            tinit=max(1, steps // 10),
            tfinal=max(1, steps // 4),
            deltaT=5,
            **common,
        )
    else:
        settings = LoraConfig(r=config.rank, use_dora=config.method is Method.DORA, **common)
    return get_peft_model(model, settings, autocast_adapter_dtype=False)


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

"""What a training run tells TensorBoard and Weights & Biases. Knows nothing of the training."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .methods import TrainingConfig

__all__ = ["Logs"]


class Logs:
    """TensorBoard event files beside the adapter; Weights & Biases too where its own variables
    (`WANDB_PROJECT` or `WANDB_MODE`) ask for it: nothing leaves the machine unasked."""

    def __init__(self, out: Path, config: TrainingConfig) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(out / "logs"))
        self.wandb: Any = None
        if not {"WANDB_PROJECT", "WANDB_MODE"} & set(os.environ):
            return
        try:
            import wandb
        except ImportError:
            return
        project = os.environ.get("WANDB_PROJECT", "featherdesk")
        self.wandb = wandb.init(project=project, dir=str(out), config=asdict(config))

    def write(self, values: dict[str, float], step: int) -> None:
        """Note values at a step."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(values, step=step)

    def close(self) -> None:
        """Write out what is left."""
        self.board.close()
        if self.wandb is not None:
            self.wandb.finish()

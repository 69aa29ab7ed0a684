"""What a run of `bench` is to measure, and how its contenders are started.

Knows nothing of what is found.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agent.artifacts import Manifest
from ..agent.config import load_config
from .child import Child, command_of, opened
from .machine import copy_gb_a_second
from .served import Server, serving

__all__ = ["Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be measured. `swept` questions are asked of every setting of llama.cpp, 0 leaves
    the sweep out; `seconds` above 0 has the users ask for so long."""

    bot: Path
    questions: Path | None = None
    limit: int = 100
    starts: int = 3
    threads: int = 1
    device: str = "cpu"
    accept_refused: bool = False
    peer: Path | None = None
    other_weights: bool = False
    swept: int = 12
    genai: bool = False
    torch: bool = False
    torch_model: Path | None = None
    users: int = 0
    seconds: float = 0.0
    page: bool = True
    command: str = ""
    command_of: Callable[[str], Sequence[str]] = command_of

    @property
    def generator(self) -> Path:
        """The bot's generator folder."""
        return self.bot / "generator"

    @property
    def ends(self) -> list[int]:
        """The tokens that end a turn."""
        told = json.loads((self.generator / "genai_config.json").read_text(encoding="utf-8"))
        end = told["model"]["eos_token_id"]
        return list(end) if isinstance(end, list) else [end]

    def served(self, *, page: bool) -> AbstractContextManager[Server]:
        """The bot's server in a process of its own, with the page or without."""
        options = ["--device", self.device]
        options += ["--accept-refused"] * self.accept_refused + ["--no-page"] * (not page)
        return serving(self.bot, *options, threads=self.threads)

    def enter(
        self, name: str, kind: str, settings: dict[str, Any]
    ) -> AbstractContextManager[Child]:
        """A contender of a kind in a process of its own."""
        return opened(name, self.command_of(kind), settings)

    def copy_gb_a_second(self) -> float:
        """Bytes that the memory of the device moves a second in a copy, in GB.

        Raises:
            FeatherdeskError: it is a GPU, and torch, which copies there, is missing or has none.
        """
        if self.device == "cpu":
            return copy_gb_a_second(self.threads)
        settings = {"device": self.device}
        with self.enter("memory of the GPU", "memory", settings) as child:
            return float(child.call("copied")["gb_a_second"])

    def ours(self, *, store: bool, lookup: bool) -> dict[str, Any]:
        """Settings of the bot's generator without HTTP."""
        return {
            "bot": str(self.bot),
            "threads": self.threads,
            "device": self.device,
            "store": store and Manifest.load(self.bot).blocks,
            "lookup": lookup,
            "stored_mb": load_config(self.bot / "bot.toml").generation.stored_mb,
        }

    def folder(self, folder: Path, threads: int) -> dict[str, Any]:
        """Settings of one who reads a model folder."""
        ends = self.ends
        return {"folder": str(folder), "threads": threads, "device": self.device, "ends": ends}

"""A contender that stands for llama.cpp: it follows the same lines, and its times are made up.

Its model file is JSON: `tokenizer` (a path), `says`, `broken` (a key and value of a setting that
fails), `dies` (after so many answers), `slow` (a real wait, in seconds).
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from featherdesk.agent.errors import FeatherdeskError
from featherdesk.serve.contender import Told, Written, follow
from tokenizers import Tokenizer


class Fake:
    """Faster with threads; lookup decodes faster and begins later; a cache begins sooner."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.model = json.loads(Path(settings["model"]).read_text())
        self.tokenizer = Tokenizer.from_file(self.model["tokenizer"])
        key, value = self.model.get("broken", ("", None))
        if key and settings[key] == value:
            raise FeatherdeskError(f"no {key} here")
        self.left = self.model.get("dies", 10**9)

    def told(self) -> Told:
        return Told("fake 1.0: CPU : AVX2 = 1 | FMA = 1", self.settings["threads"], 0.1)

    def write(self, prompt: dict[str, Any]) -> Written:
        self.left -= 1
        if self.left < 0:
            os._exit(3)
        time.sleep(self.model.get("slow", 0))
        says = self.model["says"]
        tokens = len(self.tokens(says))
        first = len(prompt["ids"]) / (100 * self.settings["threads"])
        first *= {"off": 1.0, "prefix": 0.9, "ram": 0.8}[self.settings["cache"]]
        first *= 1.5 if self.settings["lookup"] else 1.0
        each = 0.02 if self.settings["lookup"] else 0.05
        return Written(says, tokens, first, first + each * tokens, True, tokens + 1, 40)

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


if __name__ == "__main__":
    follow(Fake)

"""What a proof has found, kept in a run's work folder until the run ends.

Measuring and fitting take minutes, and what comes behind them may fail. What was found counts as
long as it was found of the same, by the same code, on the same machine. Knows nothing of the gate,
which keeps its replies itself.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..agent.artifacts import Manifest, sha256_of
from ..agent.cores import available_cores
from . import measure
from .corpora import load_topics
from .dataset import Row
from .json_file import write_json
from .measured import Measured
from .recalibrate import recalibrated, store_thresholds
from .served import agent_code, identity, libraries
from .steps import Notify

__all__ = ["Kept"]

_MEASURE = ("answers", "dataset", "measure", "measured", "probe")
_FIT = ("augment", "corpora", "doubts", "recalibrate", "refusal")
"""The modules of this package whose next edit may find something else."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Findings in the folder `work`: a file each, written whole."""

    work: Path
    notify: Notify = lambda _: None

    def compare(
        self, generators: Sequence[Path], rows: Sequence[Row], *, questions: int, command: str = ""
    ) -> list[Measured]:
        """Measure generator folders as `measure.compare` does: all of them in one run, or none.

        Raises:
            FeatherdeskError: a folder is no generator, or its process died.
        """

        def find() -> list[dict[str, Any]]:
            self.notify(f"measuring {len(generators)} generators, {questions} questions each")
            told = measure.compare(generators, rows, questions=questions, command=command)
            return [asdict(one) for one in told]

        key = _hash(
            [_contents(folder) for folder in generators],
            list(rows),
            questions,
            _code(*_MEASURE),
            libraries("sacrebleu", "rouge-score"),
            (available_cores(), platform.machine()),
        )
        found = self._found("measured.json", key, find, "the generators were measured already")
        return [Measured.of(one) for one in found]

    def recalibrate(self, bot: Path, dev: Path | None, parent: Path | None = None) -> None:
        """Fit a bot's thresholds again, beside its parent's, as `recalibrate` does, and store them.

        Raises:
            FeatherdeskError: bot or dev file cannot be read, or the bot cannot be written.
        """

        def find() -> dict[str, Any]:
            self.notify("fitting the thresholds again")
            return recalibrated(bot, bot / "generator", dev=dev, parent=parent)

        key = _hash(
            identity(bot),
            identity(parent) if parent is not None else "",
            sha256_of(dev) if dev is not None and dev.is_file() else dev,
            date.today(),  # entries expire
            _code(*_FIT),
            load_topics(),
        )
        name = f"thresholds-{'one-by-one' if Manifest.load(bot).blocks else 'together'}.json"
        told = self._found(name, key, find, "the thresholds were fitted already")
        store_thresholds(bot, told)

    def _found(self, name: str, key: str, find: Callable[[], Any], again: str) -> Any:
        """What was found under this key, as JSON has it; found now if it is not there."""
        place = self.work / name
        try:
            told = json.loads(place.read_text(encoding="utf-8"))
            if told["key"] == key:
                self.notify(again)
                return told["found"]
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
            pass
        found = json.loads(json.dumps(find()))
        write_json(place, {"key": key, "found": found})
        return found


def _contents(folder: Path) -> list[tuple[str, str]]:
    """Every file below a folder with its hash."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), sha256_of(path)) for path in paths]


def _code(*modules: str) -> str:
    """Names the code of `agent` and of modules of this package."""
    digest = hashlib.sha256()
    for data in agent_code():
        digest.update(data)
    for name in modules:
        digest.update((files(__package__) / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()

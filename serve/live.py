"""Holds the loaded bot and takes a rebuilt folder without a restart. Knows nothing of HTTP.

A bot that the gate refused is not taken, neither at the start nor later.
"""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..agent.answers import AnswerCache
from ..agent.artifacts import Manifest
from ..agent.engine import Agent
from ..agent.errors import FeatherdeskError

if TYPE_CHECKING:
    pass

__all__ = ["LiveBot", "check_gate"]

log = logging.getLogger(__name__)


def check_gate(folder: Path, manifest: Manifest) -> None:
    """Say no to a bot that the gate refused.

    Raises:
        FeatherdeskError: it did; with its first reason.
    """
    gate = manifest.gate or {}
    if gate.get("verdict") == "refused":
        reasons = gate.get("reasons") or ["no reason was stored"]
        raise FeatherdeskError(
            f"{folder} was refused by the gate ({reasons[0]}); --accept-refused serves it anyway"
        )


class LiveBot:
    """The agent that serves now, and the store; a changed manifest is loaded in the background.

    Answers are kept from one agent to the next, as far as the entries they stand on are the same.

    Raises:
        FeatherdeskError: the bot cannot be loaded, or was refused (without `accept_refused`).
    """

    def __init__(self, folder: Path, device: str = "cpu", *, accept_refused: bool = False) -> None:
        self.folder, self._device, self._accept_refused = folder, device, accept_refused
        self._stamp = self._read_stamp()
        self.answers: AnswerCache | None = None
        self._agent = self._load()
        # The database library is slow to import: that goes on elsewhere while the bot is loaded.
        from ..agent.conversations import Store

        storage = self._agent.config.storage
        self.store: Store = Store.beside(folder, storage.url, storage.redact_names)
        self._loading = threading.Lock()

    @property
    def agent(self) -> Agent:
        """The agent to use for one turn."""
        stamp = self._read_stamp()
        if stamp != self._stamp and stamp and self._loading.acquire(blocking=False):
            threading.Thread(target=self._reload, args=(stamp,), daemon=True).start()
        return self._agent

    def warm(self) -> None:
        """Have the agent do once what the first customer would wait for."""
        self._warm(self._agent)

    def _warm(self, agent: Agent) -> None:
        try:
            agent.warm()
        except FeatherdeskError as error:
            log.warning("the bot could not be warmed up: %s", error)

    def _read_stamp(self) -> int:
        try:
            return (self.folder / "manifest.json").stat().st_mtime_ns
        except OSError:
            return 0

    def _load(self) -> Agent:
        """The bot as it lies there now; judged by the manifest that it was loaded with."""
        agent = Agent.load(self.folder, device=self._device)
        if not self._accept_refused:
            check_gate(self.folder, agent.manifest)
        self.answers = agent.answers = self._answers(agent)
        return agent

    def _answers(self, agent: Agent) -> AnswerCache | None:
        """What was kept so far and still holds for an agent; None where nothing may be kept."""
        budget = int(agent.config.generation.cached * 1e6)
        if not budget or agent.generator is None:
            return None
        if self.answers is None or self.answers.budget != budget:
            return AnswerCache(budget)
        self.answers.keep(agent.router.index.entries)
        return self.answers

    def _reload(self, stamp: int) -> None:
        try:
            fresh = self._load()
            self._warm(fresh)
            self._agent = fresh
            log.info("took the rebuilt bot")
        except FeatherdeskError as error:
            log.warning("the rebuilt bot was not taken: %s", error)
        finally:
            self._stamp = stamp
            self._loading.release()

"""Holds the loaded bot and takes a rebuilt folder without a restart. Knows nothing of HTTP."""

import logging
import threading
from pathlib import Path

from ..agent.conversations import Store
from ..agent.engine import Agent
from ..agent.errors import FeatherdeskError

__all__ = ["LiveBot"]

log = logging.getLogger(__name__)


class LiveBot:
    """The agent that serves now, and the store; a changed manifest is loaded in the background."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self._device = folder, device
        self._stamp = self._read_stamp()
        self._agent = Agent.load(folder, device=device)
        storage = self._agent.config.storage
        self.store = Store.beside(folder, storage.url, storage.redact_names)
        self._loading = threading.Lock()

    @property
    def agent(self) -> Agent:
        """The agent to use for one turn."""
        stamp = self._read_stamp()
        if stamp != self._stamp and stamp and self._loading.acquire(blocking=False):
            threading.Thread(target=self._reload, args=(stamp,), daemon=True).start()
        return self._agent

    def _read_stamp(self) -> int:
        try:
            return (self.folder / "manifest.json").stat().st_mtime_ns
        except OSError:
            return 0

    def _reload(self, stamp: int) -> None:
        try:
            self._agent = Agent.load(self.folder, device=self._device)
            log.info("took the rebuilt bot")
        except FeatherdeskError as error:
            log.warning("the rebuilt bot was not taken: %s", error)
        finally:
            self._stamp = stamp
            self._loading.release()

"""Compaction and garbage collection beside a watch: no publish waits for either."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError

from schemas.errors import HeadraceError
from schemas.settings import Settings
from tasks.compact import collect_garbage, compact_store, compaction_under_way, stop_compactions
from tasks.store.compaction import due
from tasks.store.generation import read

logger = logging.getLogger(__name__)

# A compaction is a process, a second and a half of work whatever it merges; an edit saved again and again would be
# worth one each time.
COMPACT_EVERY_S = 30.0

# It reads the manifest of each generation that is kept, under the lock that a publish needs.
COLLECT_EVERY_S = 600.0


class Housekeeping(threading.Thread):
    """Looks after a store from time to time, when something was published."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._settings = settings
        self._published, self._ended = threading.Event(), threading.Event()

    def published(self) -> None:
        """There may be something to do."""
        self._published.set()

    def stop(self) -> None:
        """Stop what is under way; the store stays as it was."""
        self._ended.set()
        while self.is_alive():  # one may begin just now
            stop_compactions()
            self.join(0.1)

    def run(self) -> None:
        collected = time.monotonic()
        while not self._ended.wait(COMPACT_EVERY_S):
            if not self._published.is_set():
                continue
            self._published.clear()
            try:
                self._compact()
                if time.monotonic() - collected >= COLLECT_EVERY_S:
                    collect_garbage(self._settings)
                    collected = time.monotonic()
            except (HeadraceError, OSError, CancelledError) as error:  # the next publish gives another try
                if not self._ended.is_set():
                    logger.warning("housekeeping store=%s failed: %s", self._settings.store, error)

    def _compact(self) -> None:
        settings = self._settings
        wanted = settings.compact == "after-publish" and due(read(settings.store), memory_mb=settings.memory_mb)
        if wanted and not compaction_under_way(settings.store) and not self._ended.is_set():
            compact_store(settings)

"""Keep a store fast and small: merge the segments that are due, then remove what no kept generation needs.

In: the settings of a store. Out: its newest generation, and what was removed.
A compaction runs in a process of its own: its memory goes back to the system, the embedding beside it keeps its
interpreter, and it can be stopped at any instant, as a crash could.
"""

from __future__ import annotations

from concurrent.futures import Future
from multiprocessing import get_context
from pathlib import Path

from pebble import ProcessPool

from schemas.settings import Settings
from tasks.store.compaction import compact
from tasks.store.generation import Generation
from tasks.store.retention import Removed, collect, try_lock
from tasks.store.writer import committing

_under_way: set[Future[Generation]] = set()


def compact_store(settings: Settings, *, full: bool = False) -> Generation:
    """Merge what is due, or with `full` everything into one plain DuckDB file.

    Raises StoreBusy, StoreNotWritable, CorruptStore, and CancelledError after `stop_compactions`.
    """
    with ProcessPool(max_workers=1, context=get_context("spawn")) as pool:
        future: Future[Generation] = pool.submit(
            compact, None, settings.store, full=full, hnsw_min_rows=settings.hnsw_min_rows, memory_mb=settings.memory_mb
        )
        _under_way.add(future)
        try:
            return future.result()
        finally:
            _under_way.discard(future)


def compaction_under_way(store: Path) -> bool:
    """Whether some process compacts the store."""
    with try_lock(store / "compact.lock") as nobody_compacts:
        return not nobody_compacts


def stop_compactions() -> None:
    """Stop those of this process; the store stays as it was."""
    for future in tuple(_under_way):
        future.cancel()


def collect_garbage(settings: Settings) -> Removed:
    """Remove expired generations that nobody reads, and their files."""
    with committing(settings.store):
        return collect(settings.store, keep=settings.keep_generations, keep_hours=settings.keep_hours)

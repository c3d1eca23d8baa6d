"""Keep a store fast and small: merge the segments that are due, then remove what no kept generation needs.

In: the settings of a store. Out: its newest generation, and what was removed.
"""

from __future__ import annotations

from schemas.settings import Settings
from tasks.store.compaction import compact
from tasks.store.generation import Generation
from tasks.store.retention import Removed, collect
from tasks.store.writer import committing


def compact_store(settings: Settings, *, full: bool = False) -> Generation:
    """Merge what is due, or with `full` everything into one plain DuckDB file. Raises StoreBusy, CorruptStore."""
    return compact(settings.store, full=full, hnsw_min_rows=settings.hnsw_min_rows, memory_mb=settings.memory_mb)


def collect_garbage(settings: Settings) -> Removed:
    """Remove expired generations that nobody reads, and their files."""
    with committing(settings.store):
        return collect(settings.store, keep=settings.keep_generations, keep_hours=settings.keep_hours)

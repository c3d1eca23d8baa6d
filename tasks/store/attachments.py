"""The process's one DuckDB instance a store: segments attached READ_ONLY, shared by all readers of all generations.

A segment that two generations share stays attached, and its HNSW index in memory, when a reader moves from one to the
other. The instance lives as long as a reader of the store does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb

from tasks.store.connection import attach, connect
from tasks.store.generation import Segment

# Held by whoever changes the catalog of an instance.
lock = threading.RLock()


class Attachments:
    """Attached segments of one store, and how many readers use each. Its methods are called under `lock`."""

    def __init__(self, store: Path) -> None:  # absolute
        self.con = connect()
        self._store = store
        self._readers = 0
        self._users: Counter[str] = Counter()

    @staticmethod
    def of(store: Path) -> Attachments:
        """The process's attachments of `store`."""
        key = store.absolute()
        if key not in _open:
            _open[key] = Attachments(key)
        return _open[key]

    def acquire(self, segments: Sequence[Segment]) -> None:
        """Count a reader of `segments` and attach those that are not. Raises duckdb.Error and undoes both."""
        attached: list[Segment] = []
        self._readers += 1
        try:
            for segment in segments:
                if not self._users[segment.name]:
                    attach(self.con, segment.path(self._store), alias_of(segment))
                self._users[segment.name] += 1
                attached.append(segment)
        except duckdb.Error:
            self.release(attached)
            raise

    def release(self, segments: Sequence[Segment]) -> None:
        """Take off a reader of `segments`, detach those without any, and end the instance after the last reader."""
        for segment in segments:
            self._users[segment.name] -= 1
            if not self._users[segment.name]:
                del self._users[segment.name]
                self.con.execute(f"DETACH {alias_of(segment)}")
        self._readers -= 1
        if not self._readers:
            del _open[self._store]
            self.con.close()


_open: dict[Path, Attachments] = {}


def alias_of(segment: Segment) -> str:
    """Name under which `segment` is attached."""
    return f"segment_{segment.name.replace('-', '_')}"

"""What a store holds, as far as a scan has to know it.

In: a reader of the newest generation. Out: its live documents; all of them for a scan of whole sources, and those that
may matter for a scan of what changed, so that a change costs what the change costs.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from schemas.errors import CorruptStore
from tasks.scan import KnownDocument
from tasks.store.lookup import count_documents, documents_near
from tasks.store.reader import Reader

COLUMNS = ("doc_id", "uri", "source", "path", "content_hash", "fingerprint", "error_kind")


class LiveDocuments:
    """The live documents of one generation."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def all(self) -> list[KnownDocument]:
        """Every one. Raises CorruptStore."""
        return self._rows(self._reader.documents())

    def near(self, places: Collection[str], content_hashes: Collection[str]) -> list[KnownDocument]:
        """Those at or below some paths, of which none lies below another, and those of some contents.

        Raises CorruptStore.
        """
        return self._rows(documents_near(self._reader, places, content_hashes, ", ".join(COLUMNS)))

    def count(self, source: str) -> int:
        """How many a source has."""
        return count_documents(self._reader, source)

    def _rows(self, table: Any) -> list[KnownDocument]:
        if not set(COLUMNS) <= set(table.column_names):
            raise CorruptStore("the store's documents table lacks columns; rebuild the store")
        batches = table.select(COLUMNS).to_batches(max_chunksize=4096)
        return [_known(row) for batch in batches for row in batch.to_pylist()]


def _known(row: dict[str, Any]) -> KnownDocument:
    quarantined = row.pop("error_kind") is not None
    shared = {name: sys.intern(row.pop(name)) for name in ("source", "fingerprint")}
    return KnownDocument(**row, **shared, quarantined=quarantined)

"""Merge embedded batches into the store: one segment, one generation.

In: chunked batches whose vectors are in the ledger, and the rows that their documents replace. Out: the new generation.
A document that failed to parse replaces only earlier failures: its last good version stays searchable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq

from schemas.records import BatchRef
from schemas.settings import Settings
from tasks.embed import open_ledger
from tasks.scan import KnownDocument
from tasks.store.generation import Generation
from tasks.store.writer import Gate, publish


def merge_batches(
    batches: Sequence[BatchRef],
    base: Generation,
    replaced: Mapping[str, Sequence[KnownDocument]],
    obsolete: Sequence[KnownDocument],
    settings: Settings,
    gate: Gate | None = None,
) -> Generation:
    """Publish `batches` on top of `base`; bury the `obsolete` rows, and of `replaced` (by URI) those now superseded.

    Where `gate` refuses the generation the batches stay staged, for the next run.
    """
    tombstones = [row.doc_id for row in obsolete]
    for batch in batches:
        for document in pq.read_table(batch.part("staged"), columns=["uri", "error_kind"]).to_pylist():
            failed = document["error_kind"] is not None
            rows = replaced.get(document["uri"], ())
            tombstones += [row.doc_id for row in rows if row.quarantined or not failed]
    generation = publish(
        settings.store,
        base,
        documents=[batch.part("staged") for batch in batches],
        chunks=[batch.part("chunks") for batch in batches],
        ledger=open_ledger(settings.store, base.embedder).parts(),
        tombstones=tombstones,
        hnsw_min_rows=settings.hnsw_min_rows,
        memory_mb=settings.memory_mb,
        gate=gate,
    )
    for batch in batches:
        batch.part("staged").unlink()
        batch.part("chunks").unlink()
    return generation

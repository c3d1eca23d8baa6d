"""Embed the chunks of a batch whose text the ledger does not hold yet.

In: CHUNKS. Out: a ledger part, one row a new text: unit-norm float32[dim]. What is known is never embedded again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from schemas.records import BatchRef
from schemas.settings import Settings
from tasks.chunk import embedded_text
from tasks.models import load_encoder
from tasks.store.ledger import Ledger
from tasks.timing import timed


@functools.lru_cache(maxsize=4)
def open_ledger(store: Path, fingerprint: str) -> Ledger:
    """The process's one view of a model's ledger: it keeps two batches from embedding the same text."""
    return Ledger(store, fingerprint)


@timed("embed")
def embed_batch(batch: BatchRef, settings: Settings) -> BatchRef:
    """Put the vectors of the batch's chunks into the ledger; count the computed and the reused."""
    rows: Sequence[dict[str, str]] = pq.read_table(
        batch.part("chunks"), columns=["chunk_hash", "title", "headings", "text"]
    ).to_pylist()
    texts = {row["chunk_hash"]: embedded_text(row["title"], row["headings"], row["text"]) for row in rows}
    encoder = load_encoder(settings)
    computed = open_ledger(settings.store, encoder.fingerprint).ensure(texts, encoder.encode)
    return replace(batch, embedded=computed, reused=len(rows) - computed)

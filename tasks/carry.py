"""Carry chunks over from a document that the store already has to a URI with the same content: a rename or a copy.

In: (live document, file) pairs. Out: a staged batch, as parsing and chunking would have given it, without either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import CHUNKS, DOCUMENTS, BatchRef, FileState
from tasks.parse import document_id
from tasks.scan import KnownDocument
from tasks.store.reader import Reader


def carry_over(pairs: Sequence[tuple[KnownDocument, FileState]], reader: Reader, folder: Path) -> BatchRef:
    """Stage copies of the documents and chunks of `pairs` under their new URIs."""
    twins = {twin.doc_id for twin, _ in pairs}
    rows_of: dict[str, list[dict[str, object]]] = {doc_id: [] for doc_id in twins}
    for row in reader.chunks_of(twins).to_pylist():
        rows_of[row["doc_id"]].append(row)
    document_of = {row["doc_id"]: row for row in reader.documents(twins).to_pylist()}
    documents, chunks = [], []
    for twin, state in pairs:
        doc_id = document_id(state)
        documents.append({**document_of[twin.doc_id], **asdict(state), "doc_id": doc_id})
        chunks += [{**row, "doc_id": doc_id, "chunk_id": f"{doc_id}/{row['ordinal']}"} for row in rows_of[twin.doc_id]]
    folder.mkdir(parents=True, exist_ok=True)
    batch = BatchRef(folder, "carried", documents=len(documents), chunks=len(chunks))
    pq.write_table(pa.Table.from_pylist(chunks, schema=CHUNKS), batch.part("chunks"))
    pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENTS), batch.part("staged"))
    return batch

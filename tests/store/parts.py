"""Parquet parts as the stages before the store would have written them, from plain texts."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import CHUNKS, DOCUMENTS
from tasks.store import compaction, writer
from tasks.store.generation import Analyzer, Generation
from tasks.store.ledger import Ledger
from tasks.store.lexical import EQUAL, FieldWeights, bm25
from tasks.store.reader import Reader
from tasks.store.vectors import nearest

DIM = 16
IDENTITY = Generation(0, "test-model", DIM, Analyzer("codes", "porter", "english"))

Text = str | tuple[str, str, str]  # or title, headings and text


def vectors_of(texts: Sequence[str], dim: int = DIM) -> np.ndarray:
    """Unit vectors that depend on nothing but the text; float32[n, dim]."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
    rows = np.stack([np.random.default_rng(seed).standard_normal(dim) for seed in seeds])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Corpus:
    """A store and what is put into it."""

    store: Path
    hnsw_min_rows: int = 1_000_000
    analyzer: Analyzer = IDENTITY.analyzer
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)  # document columns by name

    def publish(self, documents: Mapping[str, Sequence[Text]], delete: Sequence[str] = ()) -> Generation:
        """Publish documents (name → texts of its chunks) and delete others by name, as one generation."""
        identity = replace(IDENTITY, analyzer=self.analyzer)
        with writer.writing(self.store, identity):
            ledger = Ledger(self.store, identity.embedder)
            folder = self.store / "staging" / uuid.uuid4().hex
            folder.mkdir(parents=True)
            chunks = [row for name, texts in documents.items() for row in _chunk_rows(name, texts)]
            if chunks:
                ledger.ensure({row["chunk_hash"]: row["text"] for row in chunks}, vectors_of)
            pq.write_table(pa.Table.from_pylist(chunks, schema=CHUNKS), folder / "chunks.parquet")
            rows = [_document_row(name, texts) | self.metadata.get(name, {}) for name, texts in documents.items()]
            pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENTS), folder / "documents.parquet")
            return writer.publish(
                self.store,
                identity,
                documents=[folder / "documents.parquet"],
                chunks=[folder / "chunks.parquet"],
                ledger=ledger.parts(),
                tombstones=list(delete),
                hnsw_min_rows=self.hnsw_min_rows,
            )

    def compact(self, *, full: bool = False) -> Generation:
        """Compact the store."""
        return compaction.compact(self.store, full=full, hnsw_min_rows=self.hnsw_min_rows, memory_mb=2048)


def state(store: Path, number: int | None = None) -> dict[str, list[str]]:
    """What a generation holds: live document → texts of its chunks."""
    with Reader.open(store, number) as reader:
        live: dict[str, list[str]] = {name: [] for name in reader.documents()["doc_id"].to_pylist()}
        for row in reader.chunks_of(live).to_pylist():
            live[row["doc_id"]].append(row["text"])
        return live


def scores(
    reader: Reader, query: str, limit: int = 1000, weights: FieldWeights = EQUAL, identifier_weight: float = 1.0
) -> dict[str, float]:
    """BM25 by chunk_id, best first."""
    scored = bm25(reader, query, limit, weights=weights, identifier_weight=identifier_weight)
    rows = reader.lookup([ref for ref, _ in scored])
    return {rows[ref]["chunk_id"]: score for ref, score in scored}


def neighbours(reader: Reader, text: str, limit: int = 10) -> list[str]:
    """Chunk_ids nearest to a text's vector."""
    scored = nearest(reader, vectors_of([text])[0], limit)
    rows = reader.lookup([ref for ref, _ in scored])
    return [rows[ref]["chunk_id"] for ref, _ in scored]


def _chunk_rows(name: str, texts: Sequence[Text]) -> list[dict[str, Any]]:
    fields = [("", "", text) if isinstance(text, str) else text for text in texts]
    return [
        {
            "chunk_id": f"{name}/{i}",
            "doc_id": name,
            "ordinal": i,
            "chunk_hash": hashlib.sha256("\0".join(parts).encode()).hexdigest(),
            "title": parts[0],
            "headings": parts[1],
            "text": parts[2],
            "page": None,
            "start": 0,
            "end": len(parts[2]),
            "tokens": 1,
        }
        for i, parts in enumerate(fields)
    ]


def _document_row(name: str, texts: Sequence[Text]) -> dict[str, Any]:
    return {
        "doc_id": name,
        "uri": f"file:///{name}",
        "source": "/",
        "path": f"/{name}",
        "title": "",
        "file_type": "txt",
        "size": 1,
        "mtime_ns": 1,
        "content_hash": name,
        "fingerprint": "f",
        "chunk_count": len(texts),
        "metadata": "{}",
        "error_kind": None,
        "error": None,
    }

"""Parquet parts as the stages before the store would have written them, from plain texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import CHUNKS, DOCUMENTS
from tasks.store import writer
from tasks.store.generation import Generation
from tasks.store.ledger import Ledger

DIM = 16
IDENTITY = Generation(0, "test-model", DIM, "porter", "english")


def vectors_of(texts: Sequence[str], dim: int = DIM) -> np.ndarray:
    """Unit vectors that depend on nothing but the text; float32[n, dim]."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
    rows = np.stack([np.random.default_rng(seed).standard_normal(dim) for seed in seeds])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Corpus:
    """A store and what was put into it."""

    store: Path
    hnsw_min_rows: int = 1_000_000

    def publish(self, documents: Mapping[str, Sequence[str]], delete: Sequence[str] = ()) -> Generation:
        """Publish documents (name → texts of its chunks) and delete others by name, as one generation."""
        with writer.writing(self.store, IDENTITY) as base:
            ledger = Ledger(self.store, IDENTITY.embedder)
            folder = self.store / "staging" / f"{base.number}"
            folder.mkdir(parents=True)
            chunks = [row for name, texts in documents.items() for row in _chunk_rows(name, texts)]
            if chunks:
                ledger.ensure({row["chunk_hash"]: row["text"] for row in chunks}, vectors_of)
            pq.write_table(pa.Table.from_pylist(chunks, schema=CHUNKS), folder / "chunks.parquet")
            rows = [_document_row(name, texts) for name, texts in documents.items()]
            pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENTS), folder / "documents.parquet")
            return writer.publish(
                self.store,
                base,
                documents=[folder / "documents.parquet"],
                chunks=[folder / "chunks.parquet"],
                ledger=ledger.parts(),
                tombstones=list(delete),
                hnsw_min_rows=self.hnsw_min_rows,
            )


def _chunk_rows(name: str, texts: Sequence[str]) -> list[dict[str, object]]:
    return [
        {
            "chunk_id": f"{name}/{i}",
            "doc_id": name,
            "ordinal": i,
            "chunk_hash": hashlib.sha256(text.encode()).hexdigest(),
            "title": "",
            "headings": "",
            "text": text,
            "page": None,
            "start": 0,
            "end": len(text),
            "tokens": 1,
        }
        for i, text in enumerate(texts)
    ]


def _document_row(name: str, texts: Sequence[str]) -> dict[str, object]:
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

"""Stores of synthetic text and vectors of any size: words by Zipf's law, clustered vectors, ten chunks a document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import CHUNKS, DOCUMENTS, embeddings_schema
from tasks.store.generation import Analyzer, Generation
from tasks.store.ledger import Ledger
from tasks.store.writer import publish, writing

DIM = 384
WORDS = 130  # of a chunk
DOCUMENT = 10  # chunks
CLUSTERS = 1_000
SLICE = 50_000  # chunks a publish
IDENTITY = Generation(0, "synthetic", DIM, Analyzer("codes", "porter", "english"))

_rng = np.random.default_rng(7)
_lengths = _rng.integers(3, 10, 60_000)
VOCABULARY = np.array(["".join(_rng.choice(list("abcdefghijklmnopqrstuvwxyz"), n)) for n in _lengths], dtype=object)
_ZIPF = np.cumsum(1 / (np.arange(len(VOCABULARY)) + 5.0))
_centres = _rng.standard_normal((CLUSTERS, DIM)).astype(np.float32)


def vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Unit vectors around random centres; float32[n, DIM]."""
    near = _centres[rng.integers(0, CLUSTERS, n)] + 0.7 * rng.standard_normal((n, DIM), dtype=np.float32)
    return np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True), dtype=np.float32)


def text(rng: np.random.Generator, words: int) -> str:
    """Words by Zipf's law."""
    return " ".join(VOCABULARY[np.searchsorted(_ZIPF, rng.random(words) * _ZIPF[-1])])


def question(rng: np.random.Generator, words: int = 6) -> str:
    """Words as a question has them: none of the fifty most frequent."""
    cut = _ZIPF[50]
    return " ".join(VOCABULARY[np.searchsorted(_ZIPF, cut + rng.random(words) * (_ZIPF[-1] - cut))])


def write_slice(folder: Path, first: int, n: int) -> pa.Table:
    """Write documents.parquet and chunks.parquet of chunks [first, first + n), and return their vectors."""
    rng = np.random.default_rng(first)
    ids = [f"{i // DOCUMENT:08x}/{i % DOCUMENT}" for i in range(first, first + n)]
    hashes = [hashlib.sha256(i.encode()).hexdigest()[:32] for i in ids]
    titles = [text(rng, 4) for _ in range(n)]
    chunks = {
        "chunk_id": ids,
        "doc_id": [i.partition("/")[0] for i in ids],
        "ordinal": [i % DOCUMENT for i in range(first, first + n)],
        "chunk_hash": hashes,
        "title": titles,
        "headings": [text(rng, 4) for _ in range(n)],
        "text": [text(rng, WORDS) for _ in range(n)],
        "page": [None] * n,
        "start": [0] * n,
        "end": [1] * n,
        "tokens": [WORDS] * n,
    }
    documents = [
        {
            "doc_id": f"{d:08x}", "uri": f"file:///corpus/{d % 100}/{d}.txt", "source": "/corpus",
            "path": f"/corpus/{d % 100}/{d}.txt", "title": "", "file_type": "txt", "size": 1, "mtime_ns": d,
            "content_hash": f"{d}", "fingerprint": "f", "chunk_count": min(DOCUMENT, first + n - d * DOCUMENT),
            "metadata": "{}", "error_kind": None, "error": None,
        }
        for d in range(first // DOCUMENT, -(-(first + n) // DOCUMENT))
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(chunks, schema=CHUNKS), folder / "chunks.parquet")
    pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENTS), folder / "documents.parquet")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors(rng, n).ravel()), DIM)
    return pa.Table.from_arrays([pa.array(hashes), column], schema=embeddings_schema(DIM))


def grow(store: Path, chunks: int) -> Iterator[Generation]:
    """Publish `chunks` chunks in slices, without HNSW indexes: a compaction comes next."""
    for first in range(0, chunks, SLICE):
        n = min(SLICE, chunks - first)
        folder = store / "staging" / f"{first:09d}"
        with writing(store, IDENTITY):
            ledger = Ledger(store, IDENTITY.embedder)
            ledger.add(write_slice(folder, first, n))
            yield publish(
                store,
                IDENTITY,
                documents=[folder / "documents.parquet"],
                chunks=[folder / "chunks.parquet"],
                ledger=ledger.parts(),
                tombstones=[],
                hnsw_min_rows=10**9,
            )
            ledger.close()

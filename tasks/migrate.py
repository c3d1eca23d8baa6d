"""Change a store's embedding model: embed every chunk anew beside the old vectors, compare, then switch in one step.

In: settings that name the new model. Out: a generation of the same documents and chunks with the new vectors.
Queries go on with the old generation until then; it stays for rollback. New vectors go to the ledger as they come, so
that what is interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from schemas.settings import Settings
from tasks.chunk import embedded_text
from tasks.evaluate.judged import read_folder
from tasks.models import Encoder, load_encoder
from tasks.store import connect
from tasks.store.generation import Generation, read
from tasks.store.ledger import Ledger
from tasks.store.rebuild import alone, remake

# Chunks read at a time; passages that are compared, and how many of their nearest.
BATCH = 2_048
SAMPLED, NEAREST = 100, 10

Report = Callable[[str, int, int], None]  # stage (embed, rebuild, gate), done, total


@dataclass(frozen=True)
class Agreement:
    """How far two models agree on what is near: sampled passages of the store as queries, all its chunks as answers."""

    queries: int
    shared: float  # mean share of a query's ten nearest that both find
    same_first: float  # share of the queries with the same nearest


def migrate(settings: Settings, before: Settings, report: Report, agree: Callable[[Agreement], bool]) -> Generation:
    """Give the store of `settings` vectors of their embedder, where `agree` says so of the comparison.

    A gate asks the old vectors with the settings `before`, and the new ones, complete by then, with `settings`.

    Returns the newest generation: the old one where the vectors are of that embedder already, or `agree` said no. No
    ingest can run meanwhile. Raises StoreNotFound, StoreBusy, StoreNotWritable, ModelNotFound, ModelMismatch,
    BadJudgements, Regression.
    """
    encoder = load_encoder(settings)
    store = settings.store
    if read(store).embedder == encoder.fingerprint:
        return read(store)
    with alone(store) as base:
        gate = None
        if settings.gate is not None:
            from tasks.evaluate.gate import open_gate

            gate = open_gate(read_folder(settings.gate), before, settings, report)
        ledger = Ledger(store, encoder.fingerprint)
        try:
            _embed(store, base, ledger, encoder, report)
            if not agree(_agreement(store, ledger, encoder.dim, settings.memory_mb)):
                return base
            return remake(
                store,
                replace(base, embedder=encoder.fingerprint, dim=encoder.dim, event="migrate"),
                ledger,
                hnsw_min_rows=settings.hnsw_min_rows,
                memory_mb=settings.memory_mb,
                report=lambda done, total: report("rebuild", done, total),
                gate=gate,
            )
        finally:
            ledger.close()


def _embed(store: Path, base: Generation, ledger: Ledger, encoder: Encoder, report: Report) -> None:
    done = 0
    with connect(store) as con:
        for batch in _batches(con, "SELECT chunk_hash, title, headings, text FROM chunks"):
            rows = batch.to_pylist()
            texts = {row["chunk_hash"]: embedded_text(row["title"], row["headings"], row["text"]) for row in rows}
            ledger.ensure(texts, encoder.encode)
            done += len(rows)
            report("embed", done, base.chunks)


def _agreement(store: Path, ledger: Ledger, dim: int, memory_mb: int) -> Agreement:
    """Compare the vectors of the store with those of `ledger`, in one pass over both."""
    with connect(store) as con:
        con.execute(f"SET memory_limit = '{memory_mb}MiB'")
        con.execute("SET temp_directory = $folder", {"folder": str(store / "building" / "spill")})
        parts = [str(part) for part in ledger.parts()]
        con.execute(f"""
            CREATE TEMP VIEW vectors AS
            SELECT c.chunk_hash, c.embedding AS old, n.embedding::FLOAT[{dim}] AS new
            FROM chunks c JOIN read_parquet({parts}) n USING (chunk_hash)
        """)
        sample = con.execute(f"FROM vectors ORDER BY hash(chunk_hash) LIMIT {SAMPLED}").to_arrow_table()
        queries = sample["chunk_hash"].to_pylist()
        nearest = {name: _Nearest(queries, _matrix(sample[name])) for name in ("old", "new")}
        for batch in _batches(con, "FROM vectors"):
            hashes = batch["chunk_hash"].to_pylist()
            for name, found in nearest.items():
                found.offer(hashes, _matrix(batch[name]))
    old, new = nearest["old"].hashes(), nearest["new"].hashes()
    return Agreement(
        queries=len(queries),
        shared=float(np.mean([len({*a} & {*b}) / max(len({*a}), 1) for a, b in zip(old, new, strict=True)])),
        same_first=float(np.mean([a[:1] == b[:1] for a, b in zip(old, new, strict=True)])),
    )


class _Nearest:
    """The NEAREST chunks by cosine to each of some chunks, themselves and other copies of their text aside."""

    def __init__(self, own: Sequence[str], queries: np.ndarray) -> None:
        self._own, self._queries = own, queries
        self._found: list[dict[str, float]] = [{} for _ in own]

    def offer(self, hashes: Sequence[str], vectors: np.ndarray) -> None:
        """Consider more chunks: n hashes, float32[n, dim]."""
        similarities = self._queries @ vectors.T
        for own, found, row in zip(self._own, self._found, similarities, strict=True):
            best = np.argsort(-row)[: NEAREST + 1]
            found |= {hashes[i]: float(row[i]) for i in best if hashes[i] != own}
            for worst in sorted(found, key=lambda key: -found[key])[NEAREST:]:
                del found[worst]

    def hashes(self) -> list[list[str]]:
        """Those found for each query, nearest first."""
        return [sorted(found, key=lambda key: -found[key]) for found in self._found]


def _batches(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[pa.RecordBatch]:
    yield from con.execute(sql).to_arrow_reader(BATCH)


def _matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """float32[n, dim] of n lists."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(array.flatten(), dtype=np.float32).reshape(len(array), -1)

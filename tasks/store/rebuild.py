"""Make all of DuckDB again from Parquet, without a model.

In: the newest generation's Parquet (documents, chunks, tombstones) and the ledger. Out: a generation of the same rows
in new segments, indexed by the analyzer that is asked for. What is damaged is replaced by its other copy: a segment by
its Parquet, Parquet or a ledger part by the segment.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from schemas.errors import CorruptStore
from schemas.records import CHUNKS, DOCUMENTS
from tasks.store import generation as generations
from tasks.store.connection import attach, connect, quoted
from tasks.store.files import sha256
from tasks.store.generation import Analyzer, Generation, Segment
from tasks.store.ledger import Ledger, damaged_parts
from tasks.store.segment import build_segment
from tasks.store.verify import Report
from tasks.store.writer import Gate, admit, committing, locked, new_segment, publish_segment, writing

logger = logging.getLogger(__name__)


def rebuild(
    store: Path,
    analyzer: Analyzer,
    *,
    hnsw_min_rows: int,
    memory_mb: int,
    report: Report = lambda done, total: None,
) -> Generation:
    """Rebuild the newest generation, segment by segment, and return the one that it became.

    Raises StoreNotFound, StoreBusy, StoreNotWritable, and CorruptStore, changing nothing, where both copies of
    something are damaged.
    """
    with alone(store) as base:
        ledger = _restored_ledger(store, base)
        target = replace(base, analyzer=analyzer, event="rebuild")
        rebuilt = remake(store, target, ledger, hnsw_min_rows=hnsw_min_rows, memory_mb=memory_mb, report=report)
        ledger.close()
        return rebuilt


@contextmanager
def alone(store: Path) -> Iterator[Generation]:
    """Keep ingests and compactions out; give the newest generation. Raises StoreNotFound, StoreBusy."""
    with (
        writing(store, generations.read(store)),
        locked(store, "compact.lock", f"another process is compacting {store}; wait for it"),
    ):
        yield generations.read(store)


def remake(
    store: Path,
    target: Generation,
    ledger: Ledger,
    *,
    hnsw_min_rows: int,
    memory_mb: int,
    report: Report,
    gate: Gate | None = None,
) -> Generation:
    """Publish `target`, the newest generation with another analyzer or other vectors, its segments made from Parquet.

    The caller is `alone` with the store. Raises CorruptStore, changing nothing, where both copies of a segment are
    damaged or the ledger lacks a vector, and likewise what `gate` raises.
    """
    built: list[tuple[Path, Segment]] = []
    buried: list[str] = []  # by newer segments, so: newest first
    for done, segment in enumerate(reversed(target.segments), start=1):
        parquet = _restored_parquet(store, segment)
        aside = new_segment(store, target.number + 1, "compacting")
        tombstones = pq.read_table(parquet["tombstones"])["doc_id"].to_pylist() if "tombstones" in parquet else []
        remade = build_segment(
            aside,
            target,
            documents=[parquet["documents"]],
            chunks=[parquet["chunks"]],
            ledger=ledger.parts(),
            tombstones=tombstones,
            skip=buried,
            hnsw_min_rows=hnsw_min_rows,
            memory_mb=memory_mb,
        )
        built.insert(0, (aside, remade))
        buried += tombstones
        report(done, len(target.segments))
    with committing(store):  # until then a garbage collection would sweep what no manifest names
        for aside, segment in built:
            publish_segment(store, aside, segment)
        segments = tuple(segment for _, segment in built)
        number = target.number + 1
        candidate = Generation(number, target.embedder, target.dim, target.analyzer, segments, event=target.event)
        return admit(store, generations.read(store), candidate, gate)


def _whole(store: Path, segment: Segment) -> set[str]:
    """Suffixes of a segment's files that are as they were published."""
    return {
        suffix
        for suffix, digest in segment.digests.items()
        if segment.path(store, suffix).is_file() and sha256(segment.path(store, suffix)) == digest
    }


def _restored_parquet(store: Path, segment: Segment) -> dict[str, Path]:
    """Paths of a segment's Parquet by table; what is damaged is written again from DuckDB, into the building folder."""
    whole = _whole(store, segment)
    tables = [suffix.removesuffix(".parquet") for suffix in segment.digests if suffix != "duckdb"]
    paths = {table: segment.path(store, f"{table}.parquet") for table in tables}
    for table in tables:
        if f"{table}.parquet" in whole:
            continue
        if "duckdb" not in whole:
            raise CorruptStore(
                f"both {segment.name}.duckdb and {segment.name}.{table}.parquet are damaged; go back with headrace "
                "rollback, or ingest the sources into a new store"
            )
        logger.warning("parquet restored from its segment path=%s", paths[table])
        paths[table] = new_segment(store, 0).with_suffix(f".{table}.parquet")
        columns = f"COLUMNS(c -> list_contains({_COLUMNS[table]}, c))"
        with connect(vectors=False) as con:
            attach(con, segment.path(store), "damaged")
            con.execute(f"COPY (SELECT {columns} FROM damaged.{table}) TO '{quoted(paths[table])}'")
    return paths


_COLUMNS = {"documents": DOCUMENTS.names, "chunks": CHUNKS.names, "tombstones": ["doc_id"]}


def _restored_ledger(store: Path, base: Generation) -> Ledger:
    """The ledger without damaged parts, completed from the segments that are whole."""
    ledger = Ledger(store, base.embedder)
    damaged = damaged_parts(ledger.folder)
    for part in damaged:
        logger.warning("damaged part of the ledger removed path=%s", part)
        part.unlink()
    for segment in base.segments:
        if "duckdb" in _whole(store, segment):
            with connect(vectors=False) as con:
                attach(con, segment.path(store), "s")
                parts = [str(part) for part in ledger.parts()]
                known = f"SELECT chunk_hash FROM read_parquet({parts})" if parts else "SELECT '' AS chunk_hash"
                missing = con.execute(
                    "SELECT chunk_hash, any_value(embedding) AS embedding FROM s.chunks "
                    f"WHERE chunk_hash NOT IN ({known}) GROUP BY chunk_hash"
                ).to_arrow_table()
            if missing.num_rows:
                ledger.add(missing)
    return ledger

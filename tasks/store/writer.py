"""Publish generations: each publish one new segment and one manifest.

The order is what makes a crash harmless: segment written aside, closed, fsynced, renamed; manifest; CURRENT. Whatever
no manifest names is garbage, swept by the next writer. Two locks: `lock` for an ingest from its scan to its end, and
`commit.lock` for the moment in which a generation is made on top of the newest, so that a compaction and an ingest run
side by side and neither loses what the other published.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import filelock
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import ModelMismatch, StoreBusy, StoreNotWritable
from schemas.records import DOCUMENTS
from tasks.store import generation as generations
from tasks.store.files import publish_file
from tasks.store.generation import Generation, Segment
from tasks.store.reader import Reader, reading
from tasks.store.retention import sweep
from tasks.store.segment import LENGTHS, build_segment

# A commit takes as long as its segment takes to build: seconds.
COMMIT_TIMEOUT_S = 600.0

# Looks at the newest generation and at a candidate for the next. Raises to refuse it, or gives what shall stand in its
# event.
Gate = Callable[[Generation, Generation], str]


@contextmanager
def writing(store: Path, identity: Generation, *, sweeping: bool = True) -> Iterator[Generation]:
    """Hold the store's lock; give its newest generation, or `identity`, the empty generation 0 of a new store.

    `sweeping` removes first what a killed writer left, which reads the manifest of each generation that is kept.

    Raises StoreBusy where another process ingests, ModelMismatch where the store's vectors are of another model,
    StoreNotWritable where the disk is full or read only.
    """
    with translated(store):
        for folder in ("manifests", "segments", "staging"):
            (store / folder).mkdir(parents=True, exist_ok=True)
    with locked(store, "lock", f"another process is ingesting into {store}; wait for it to end, or stop it"):
        base = generations.read(store) if generations.exists(store) else identity
        if base.embedder != identity.embedder:
            raise ModelMismatch(
                f"{store} holds vectors of {base.embedder}, the settings ask for {identity.embedder}; "
                "set the store's own embedder, or change its vectors with: headrace migrate --model …"
            )
        if sweeping:
            with committing(store):
                sweep(store)
        yield base


@contextmanager
def locked(store: Path, name: str, busy: str, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `name` of `store`. Raises StoreBusy, saying `busy`, and StoreNotWritable."""
    lock = filelock.FileLock(store / name, timeout=timeout_s)
    with translated(store):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise StoreBusy(busy) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def committing(store: Path) -> Iterator[None]:
    """Hold the right to make the next generation."""
    busy = f"another process has been publishing to {store} for {COMMIT_TIMEOUT_S / 60:.0f} minutes; is it stuck?"
    with locked(store, "commit.lock", busy, COMMIT_TIMEOUT_S), translated(store):
        yield


@contextmanager
def translated(store: Path) -> Iterator[None]:
    """DuckDB's and the system's failures to write, as StoreNotWritable."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (duckdb.IOException, duckdb.FatalException, OSError) as error:
        raise StoreNotWritable(_not_writable(store, error)) from error


def _not_writable(store: Path, error: Exception) -> str:
    free = shutil.disk_usage(store if store.exists() else store.absolute().parent).free if store.parent.exists() else 0
    return (
        f"cannot write to {store}: {error}; {free / 1e6:,.0f} MB are free there. What was published is whole; "
        "make room or give permission and run the same command again"
    )


def publish(
    store: Path,
    identity: Generation,
    *,
    documents: Sequence[Path],
    chunks: Sequence[Path],
    ledger: Sequence[Path],
    tombstones: Sequence[str],
    hnsw_min_rows: int,
    memory_mb: int = 2048,
    gate: Gate | None = None,
) -> Generation:
    """Merge Parquet parts (DOCUMENTS, CHUNKS) and tombstones into a generation on top of the newest, and return it.

    `tombstones` are doc_ids to bury; a document published again buries its older self without being named. What the
    store has already in the same form is left out: a publish repeated changes nothing and gives the generation that is
    there. What `gate` raises leaves the store as it was.
    """
    with committing(store):
        base = generations.read(store) if generations.exists(store) else identity
        changes = _changes(store, base, documents, chunks, tombstones)
        if changes.empty:
            return base
        number = base.number + 1
        aside = new_segment(store, number)
        segment = build_segment(
            aside,
            base,
            documents=documents,
            chunks=chunks,
            ledger=ledger,
            tombstones=sorted(changes.buried["doc_id"].unique().to_pylist()),
            skip=changes.unchanged,
            hnsw_min_rows=hnsw_min_rows,
            memory_mb=memory_mb,
        )
        publish_segment(store, aside, segment)
        segments = (*without(base.segments, changes.buried), segment)
        candidate = Generation(number, base.embedder, base.dim, base.analyzer, segments, event="ingest")
        return admit(store, base, candidate, gate)


def admit(store: Path, base: Generation, candidate: Generation, gate: Gate | None) -> Generation:
    """Make `candidate`, whose segments are in their place, the newest generation after `base`, where `gate` lets it.

    The caller holds the right to commit. While the gate decides no manifest names the candidate: only who is handed it
    can read it, no listing, rollback or collection meets it, and after a crash its segments are swept like any litter.
    """
    if gate is not None:
        try:
            measured = gate(base, candidate)
        except BaseException:
            sweep(store)
            raise
        candidate = replace(candidate, event=f"{candidate.event}, {measured}")
    generations.write(store, candidate)
    return candidate


def new_segment(store: Path, number: int, folder: str = "building") -> Path:
    """Where a segment is written before it is published."""
    (store / folder).mkdir(exist_ok=True)
    return store / folder / f"{number:06d}-{uuid.uuid4().hex[:8]}.duckdb"


def publish_segment(store: Path, aside: Path, segment: Segment) -> None:
    """Move a finished segment's files to their place."""
    for suffix in segment.digests:
        publish_file(aside.with_suffix(f".{suffix}"), segment.path(store, suffix))


@dataclass(frozen=True)
class _Changes:
    """What a publish changes in the live rows of its base."""

    incoming: int  # documents to write
    unchanged: list[str]  # doc_ids that the base has in the same form
    buried: pa.Table  # live rows of the base that the publish replaces or deletes

    @property
    def empty(self) -> bool:
        return not self.incoming and not self.buried.num_rows


def _changes(
    store: Path, base: Generation, documents: Sequence[Path], chunks: Sequence[Path], tombstones: Sequence[str]
) -> _Changes:
    rows = pa.concat_tables([DOCUMENTS.empty_table(), *(pq.read_table(part, schema=DOCUMENTS) for part in documents)])
    doc_ids = rows["doc_id"].to_pylist()
    with reading(store, base) as reader:
        live = reader.documents({*doc_ids, *tombstones})
        present = {row["doc_id"]: row for row in live.select(DOCUMENTS.names).to_pylist()}
        same = {row["doc_id"] for row in rows.to_pylist() if present.get(row["doc_id"]) == row}
        if same:
            same &= _same_chunks(reader, same, chunks)
    same -= set(tombstones)
    buried = live.filter(pc.invert(pc.is_in(live["doc_id"], value_set=pa.array(sorted(same), pa.string()))))
    return _Changes(len(set(doc_ids) - same), sorted(same), buried)


def _same_chunks(reader: Reader, doc_ids: set[str], chunks: Sequence[Path]) -> set[str]:
    """Those of `doc_ids` whose chunks in `chunks` are the reader's."""
    columns = ["doc_id", "ordinal", "chunk_hash"]
    wanted = pc.field("doc_id").isin(sorted(doc_ids))
    incoming = pa.concat_tables([pq.read_table(part, columns=columns, filters=wanted) for part in chunks])
    changed = {row["doc_id"] for row in _difference(incoming, reader.chunks_of(doc_ids).select(columns))}
    return doc_ids - changed


def _difference(one: pa.Table, other: pa.Table) -> list[dict[str, object]]:
    """Rows that are in only one of two tables of equal columns."""
    left, right = ({tuple(row.values()) for row in table.to_pylist()} for table in (one, other))
    return [dict(zip(one.column_names, row, strict=True)) for row in left ^ right]


def without(segments: Sequence[Segment], buried: pa.Table) -> tuple[Segment, ...]:
    """`segments` with the counts of `buried` document rows taken off."""
    rows: list[list[dict[str, int]]] = [[] for _ in segments]
    for row in buried.select(["segment", "chunk_count", "error_kind", *LENGTHS]).to_pylist():
        rows[row["segment"]].append(row)
    return tuple(
        replace(
            segment,
            live_documents=segment.live_documents - sum(row["error_kind"] is None for row in gone),
            live_quarantined=segment.live_quarantined - sum(row["error_kind"] is not None for row in gone),
            live_chunks=segment.live_chunks - sum(row["chunk_count"] for row in gone),
            live_length=segment.live_length - sum(row["length"] for row in gone),
            live_title_length=segment.live_title_length - sum(row["title_length"] for row in gone),
            live_headings_length=segment.live_headings_length - sum(row["headings_length"] for row in gone),
        )
        for segment, gone in zip(segments, rows, strict=True)
    )


def clear_staging(store: Path) -> None:
    """Remove the staged batches: all of them are published, or no longer wanted."""
    for folder in (store / "staging").iterdir():
        shutil.rmtree(folder)

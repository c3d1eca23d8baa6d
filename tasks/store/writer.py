"""Publish generations: one writer at a time, each publish one new segment and one manifest.

The order is what makes a crash harmless: segment written aside, closed, fsynced, renamed; manifest; CURRENT. Whatever
no manifest names is garbage, swept by the next writer.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock

from schemas.errors import ModelMismatch, StoreBusy
from tasks.store import generation as generations
from tasks.store.files import publish_file, sha256
from tasks.store.generation import Generation, Segment
from tasks.store.reader import Reader
from tasks.store.segment import build_segment


@contextmanager
def writing(store: Path, identity: Generation) -> Iterator[Generation]:
    """Hold the store's lock; give its newest generation, or `identity`, the empty generation 0 of a new store.

    Raises StoreBusy where another process writes, ModelMismatch where the store's vectors are of another model.
    """
    for folder in (store, store / "manifests", store / "segments", store / "staging"):
        folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(store / "lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StoreBusy(f"another process is writing to {store}; wait for it to end, or stop it") from None
    try:
        base = generations.read(store) if generations.exists(store) else identity
        if base.embedder != identity.embedder:
            raise ModelMismatch(
                f"{store} holds vectors of {base.embedder}, the settings ask for {identity.embedder}; "
                "ingest into another store, or set the store's own embedder"
            )
        _sweep(store)
        yield base
    finally:
        lock.release()


def publish(
    store: Path,
    base: Generation,
    *,
    documents: Sequence[Path],
    chunks: Sequence[Path],
    ledger: Sequence[Path],
    tombstones: Sequence[str],
    hnsw_min_rows: int,
) -> Generation:
    """Merge Parquet parts (DOCUMENTS, CHUNKS) and tombstones into a generation on top of `base`, and return it.

    The caller holds the lock (`writing`). `tombstones` are doc_ids of older segments; a document published again buries
    its older self without being named.
    """
    number = base.number + 1
    final = store / "segments" / f"{number:06d}-{uuid.uuid4().hex[:8]}.duckdb"
    aside = final.with_suffix(".building")
    build_segment(
        aside,
        documents=documents,
        chunks=chunks,
        ledger=ledger,
        tombstones=tombstones,
        dim=base.dim,
        stemmer=base.stemmer,
        stopwords=base.stopwords,
        hnsw_min_rows=hnsw_min_rows,
    )
    publish_file(aside, final)
    # counted through a reader, so that the manifest says what readers will see
    with Reader(store, replace(base, segments=(*base.segments, Segment(final.name)))) as reader:
        segments = reader.counted_segments()
    segments = (*segments[:-1], replace(segments[-1], sha256=sha256(final), bytes=final.stat().st_size))
    published = Generation(number, base.embedder, base.dim, base.stemmer, base.stopwords, segments)
    generations.write(store, published)
    return published


def clear_staging(store: Path) -> None:
    """Remove the staged batches: all of them are published, or no longer wanted."""
    for folder in (store / "staging").iterdir():
        shutil.rmtree(folder)


def _sweep(store: Path) -> None:
    """Remove what no manifest names: a killed writer left it."""
    named = {
        s.file
        for path in (store / "manifests").glob("*.json")
        for s in generations.read(store, int(path.stem)).segments
    }
    leftovers = [path for path in (store / "segments").iterdir() if path.name not in named]
    for path in (*leftovers, *store.glob("*.tmp"), *(store / "manifests").glob("*.tmp")):
        path.unlink()

"""How the store's costs grow with the corpus: a table by number of chunks.

    python -m tests.benchmarks.store [--chunks 10000 100000 1000000] [--folder FOLDER] [--threads 1]

Synthetic stores are made in FOLDER once and kept (1M chunks: 13 GB, some 20 minutes). Queries run on one thread, each
figure the median of QUERIES in a second pass; every comparison is made in the same process, one query after the other.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from schemas.records import CHUNKS, DOCUMENTS
from tasks.fuse import reciprocal_rank_fusion
from tasks.store import generation as generations
from tasks.store.compaction import compact
from tasks.store.connection import attach, connect
from tasks.store.ledger import Ledger
from tasks.store.lexical import bm25
from tasks.store.reader import Reader
from tasks.store.terms import IGNORE
from tasks.store.vectors import nearest
from tasks.store.writer import publish, writing
from tests.benchmarks.synthetic import DIM, IDENTITY, grow, question, vectors, write_slice

QUERIES = 25
PUBLISHES = 7
LIMIT = 100


def median_ms(call: Callable[[int], object], repeats: int = QUERIES) -> tuple[float, float]:
    """Median time of call(0), call(1), …: in a first pass, whose blocks are read from files, and in a second one."""
    medians = []
    for _ in range(2):
        times = []
        for i in range(repeats):
            start = time.perf_counter()
            call(i)
            times.append(time.perf_counter() - start)
        medians.append(statistics.median(times) * 1000)
    return medians[0], medians[1]


def build(folder: Path, chunks: int) -> Path:
    """The store of `chunks` chunks, fully compacted; what that took lies beside it in a text file."""
    store = folder / str(chunks)
    if not (store / "built.txt").exists():
        for _ in grow(store, chunks):
            pass
        # in a process of its own: its peak memory is the compaction's
        subprocess.run([sys.executable, "-m", "tests.benchmarks.store", "--compact", str(store)], check=True)
        own_fts_index(store)
    return store


def own_fts_index(store: Path) -> None:
    """The same chunks in a file that `create_fts_index` indexed, as DuckDB's users have it."""
    (segment,) = generations.read(store).segments
    with connect(store / "own_fts.duckdb") as con:
        attach(con, segment.path(store), "s")
        con.execute("CREATE TABLE chunks AS SELECT chunk_id, title, headings, text FROM s.chunks")
        con.execute(f"""
            PRAGMA create_fts_index('chunks', 'chunk_id', 'title', 'headings', 'text', ignore = '{IGNORE["words"]}')
        """)


def compact_and_note(store: Path) -> None:
    """Compact a store fully and write down time and peak memory."""
    import resource

    start = time.perf_counter()
    compact(store, full=True, hnsw_min_rows=50_000, memory_mb=2048)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (store / "built.txt").write_text(f"{seconds:.0f} s, {peak:,.0f} MiB")


def one_document_publish(store: Path) -> float:
    """Seconds of publishing one changed document of ten chunks."""
    times = []
    for i in range(PUBLISHES):
        folder = store / "staging" / f"one-{time.time_ns()}"
        table = write_slice(folder, 1_000, 10)
        documents = pq.read_table(folder / "documents.parquet").to_pylist()
        documents[0]["content_hash"] = folder.name
        pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENTS), folder / "documents.parquet")
        rows = [row | {"chunk_hash": f"{time.time_ns()}{n}"} for n, row in enumerate(
            pq.read_table(folder / "chunks.parquet").to_pylist())]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema=CHUNKS), folder / "chunks.parquet")
        with writing(store, IDENTITY):
            ledger = Ledger(store, IDENTITY.embedder)
            ledger.add(table.set_column(0, "chunk_hash", pa.array([row["chunk_hash"] for row in rows])))
            start = time.perf_counter()
            publish(
                store,
                IDENTITY,
                documents=[folder / "documents.parquet"],
                chunks=[folder / "chunks.parquet"],
                ledger=ledger.parts(),
                tombstones=[],
                hnsw_min_rows=50_000,
            )
            if i:  # the first one warms up
                times.append(time.perf_counter() - start)
            ledger.close()
    return statistics.median(times)


def measure(store: Path, threads: int) -> dict[str, str]:
    """All figures of one store; the publishes are undone by going back to its compacted generation."""
    compacted = generations.current_number(store)
    start = time.perf_counter()
    reader = Reader.open(store)
    opened = time.perf_counter() - start
    rng = np.random.default_rng(3)
    questions, points = [question(rng) for _ in range(QUERIES)], vectors(rng, QUERIES)
    start = time.perf_counter()
    nearest(reader, points[0], LIMIT)
    first = time.perf_counter() - start
    con = reader.cursor()
    con.execute(f"SET threads = {threads}")
    with connect() as plain:
        attach(plain, reader.generation.segments[0].path(store), "exported")
        attach(plain, store / "own_fts.duckdb", "own")
        plain.execute(f"SET threads = {threads}")
        figures = _compared(reader, plain, questions, points)
    reader.close()
    publishing = one_document_publish(store)
    generations.write(store, _again(store, compacted))
    return {
        "publish one changed document": f"{publishing:.3f} s",
        **figures,
        "open": f"{opened * 1000:.0f} ms",
        "  first vector query": f"{first * 1000:.0f} ms",
        "full compaction, peak memory": (store / "built.txt").read_text(),
    }


def _compared(
    reader: Reader, plain: duckdb.DuckDBPyConnection, questions: list[str], points: np.ndarray
) -> dict[str, str]:
    """Queries of ours beside those of a plain DuckDB client."""

    def match_bm25(i: int, file: str) -> object:
        plain.execute(f"USE {file}")
        return plain.execute(
            "SELECT chunk_id, score "
            "FROM (SELECT chunk_id, fts_main_chunks.match_bm25(chunk_id, ?) AS score FROM chunks) "
            f"WHERE score IS NOT NULL ORDER BY score DESC LIMIT {LIMIT}",
            [questions[i]],
        ).fetchall()

    def exact(i: int) -> object:
        literal = f"'{points[i].tolist()}'::FLOAT[{DIM}]"
        return plain.execute(
            "SELECT docid FROM exported.chunks "
            f"ORDER BY array_cosine_similarity(embedding, {literal}) DESC LIMIT {LIMIT}"
        ).fetchall()

    def bound_list(i: int) -> object:
        return plain.execute(
            "SELECT docid FROM exported.chunks "
            f"ORDER BY array_cosine_distance(embedding, ?::FLOAT[{DIM}]) LIMIT {LIMIT}",
            [points[i].tolist()],
        ).fetchall()

    def hybrid(i: int) -> object:
        ranked = [bm25(reader, questions[i], LIMIT), nearest(reader, points[i], LIMIT)]
        fused = reciprocal_rank_fusion([[ref for ref, _ in scored] for scored in ranked])
        return reader.lookup([ref for ref, _ in fused[:50]])

    few = QUERIES if reader.generation.chunks <= 100_000 else 7
    _, lexical = median_ms(lambda i: bm25(reader, questions[i], LIMIT))
    _, own = median_ms(lambda i: match_bm25(i, "own"), few)
    _, exported = median_ms(lambda i: match_bm25(i, "exported"), few)
    _, semantic = median_ms(lambda i: nearest(reader, points[i], LIMIT))
    _, scan = median_ms(exact, few)
    _, bound = median_ms(bound_list)
    cold, warm = median_ms(hybrid)
    return {
        "BM25, 6 terms, top 100": f"{lexical:.1f} ms",
        "  match_bm25, DuckDB's own index": f"{own:.1f} ms, {own / lexical:.0f} times",
        "  match_bm25, our export": f"{exported:.1f} ms, {exported / lexical:.0f} times",
        "vectors, top 100": f"{semantic:.1f} ms",
        "  exact scan": f"{scan:.1f} ms, {scan / semantic:.0f} times",
        "  HNSW by a bound list": f"{bound:.1f} ms, {bound / semantic:.1f} times",
        "hybrid: both, RRF, 50 texts": f"{warm:.1f} ms",
        "  texts read for the first time": f"{cold:.1f} ms",
    }


def _again(store: Path, number: int) -> generations.Generation:
    newest = generations.current_number(store)
    return replace(generations.read(store, number), number=newest + 1, event="benchmark undone")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "headrace-benchmark")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compact", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compact:
        compact_and_note(arguments.compact)
        return
    results = {chunks: measure(build(arguments.folder, chunks), arguments.threads) for chunks in arguments.chunks}
    table = Table("", *(f"{chunks:,} chunks" for chunks in results))
    for name in next(iter(results.values())):
        table.add_row(name, *(figures[name] for figures in results.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

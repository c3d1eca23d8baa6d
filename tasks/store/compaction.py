"""Fold small segments together, so that a store of many publishes is searched as fast as a fresh one.

Tiered by size: the newest segments are merged when FANOUT of them stand in a row that are no more than FANOUT times
apart; so a chunk is rewritten once a tier, log(chunks) times in all (O'Neil et al. 1996, "The Log-Structured
Merge-Tree"). A segment of which more than half is dead is rewritten at any size. Chunks, terms and postings are copied,
not tokenized again: only row numbers and term numbers change.

Nobody waits: the merge reads published segments and holds a lock that only another compaction wants; the commit
replaces the run of segments in whatever generation is then the newest. What was published meanwhile lies after the run
and buries rows of the merged segment as it would have buried theirs.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import duckdb

from tasks.store import generation as generations
from tasks.store.connection import attach, build_in
from tasks.store.fts import create_fts_schema, fill_fts_tables
from tasks.store.generation import Generation, Segment
from tasks.store.reader import Reader
from tasks.store.segment import LENGTHS, POSTINGS, count_df, create_tables, finish, index_vectors, termid_ranges
from tasks.store.writer import committing, locked, new_segment, publish_segment, without

logger = logging.getLogger(__name__)

FANOUT = 8

# Share of dead chunks from which a segment is rewritten on its own.
MOSTLY_DEAD = 0.5


def due(generation: Generation, *, memory_mb: int) -> range | None:
    """The run of segments that a compaction would merge now, or None."""
    sizes = [segment.live_chunks for segment in generation.segments]
    most = _most_chunks(generation.dim, memory_mb)
    for end in range(len(sizes), FANOUT - 1, -1):
        start, total = end - 1, sizes[end - 1]
        while start and total + sizes[start - 1] <= most and _similar(sizes[start - 1], total, end - start):
            start -= 1
            total += sizes[start]
        largest = max(sizes[start:end])
        if end - start >= FANOUT and _similar(largest, total - largest, end - start - 1):
            return range(start, end)
    for i, segment in enumerate(generation.segments):
        if segment.chunks > FANOUT and segment.live_chunks < segment.chunks * (1 - MOSTLY_DEAD):
            return range(i, i + 1)
    return None


def _similar(size: int, total: int, segments: int) -> bool:
    """Whether a segment is worth rewriting with others: it is not far larger than they are on average."""
    return size <= FANOUT * max(total / segments, 1)


def compact(store: Path, *, full: bool = False, hnsw_min_rows: int, memory_mb: int) -> Generation:
    """Merge what is due, again and again until nothing is, and return the newest generation.

    `full` merges everything into one plain DuckDB file on which `fts_main_chunks.match_bm25` and the HNSW index work in
    any client. DuckDB keeps to `memory_mb`; an HNSW index comes on top, 4 bytes a dimension and some 300 a vector.

    Raises StoreNotFound, StoreBusy where another process compacts, CorruptStore, StoreNotWritable.
    """
    generations.current_number(store)  # no store, no lock file
    with locked(store, "compact.lock", f"another process is compacting {store}; wait for it to end"):
        generation = generations.read(store)
        while run := _run(generation, full=full, memory_mb=memory_mb):
            with Reader.open(store, generation.number) as reader:
                aside = new_segment(store, generation.number, "compacting")
                merged = merge_segments(
                    reader, run, aside, plain=full, hnsw_min_rows=hnsw_min_rows, memory_mb=memory_mb
                )
                with committing(store):
                    newest = _replaced(store, reader.generation, run, aside, merged)
            if newest is None:
                logger.warning("compaction given up store=%s: its segments are no longer live", store)
                break
            generation = newest
            if full:
                break
        return generation


def _run(generation: Generation, *, full: bool, memory_mb: int) -> range | None:
    if not full:
        return due(generation, memory_mb=memory_mb)
    one = generation.segments[0] if len(generation.segments) == 1 else None
    if not generation.segments or (one and one.fts and one.live_chunks == one.chunks):
        return None
    return range(len(generation.segments))


def _most_chunks(dim: int, memory_mb: int) -> int:
    """The largest segment whose HNSW index fits into `memory_mb` while it is built."""
    return memory_mb * 2**20 // (dim * 4 + 300)


def _replaced(store: Path, base: Generation, run: range, aside: Path, merged: Segment) -> Generation | None:
    """Publish the newest generation with the run of `base` replaced by `merged`; None where it is not live any more."""
    newest = generations.read(store)
    names = [segment.name for segment in newest.segments]
    old = [segment.name for segment in base.segments[run.start : run.stop]]
    at = names.index(old[0]) if old[0] in names else len(names)
    if names[at : at + len(old)] != old:
        return None
    publish_segment(store, aside, merged)
    with Reader(store, newest) as reader:
        buried = reader.tombstones(range(at + len(old), len(names)))
    with Reader(store, replace(newest, segments=(merged,))) as alone:
        (merged,) = without((merged,), alone.documents(buried))
    segments = (*newest.segments[:at], merged, *newest.segments[at + len(old) :])
    number = newest.number + 1
    published = Generation(number, newest.embedder, newest.dim, newest.analyzer, segments, event="compact")
    generations.write(store, published)
    return published


def merge_segments(
    reader: Reader, run: range, aside: Path, *, plain: bool, hnsw_min_rows: int, memory_mb: int
) -> Segment:
    """Write one segment with the live rows of a run of the reader's segments to `aside`, and return its entry.

    `plain` adds what other DuckDB clients query: DuckDB's own FTS index, and an HNSW index whatever the size.
    """
    chunks = sum(segment.live_chunks for segment in reader.generation.segments[run.start : run.stop])
    hnsw = chunks >= hnsw_min_rows
    with build_in(aside, rows=chunks, memory_mb=memory_mb, vectors=hnsw or plain) as con:
        create_tables(con, reader.generation.dim)
        if plain:
            create_fts_schema(con, reader.generation.analyzer)
        for i in run:
            attach(con, reader.generation.segments[i].path(reader.store), f"s{i}")
        _copy_chunks(con, reader, run)
        _copy_postings(con, run)
        _copy_documents(con, reader, run)
        for i in run:
            con.execute(f"DETACH s{i}")
        for table in ("dead", "moved", "termids"):
            con.execute(f"DROP TABLE temp.{table}")
        if plain:
            fill_fts_tables(con)
        if hnsw or (plain and chunks):
            index_vectors(con)
        return finish(con, aside, hnsw=hnsw, fts=plain)


def _copy_chunks(con: duckdb.DuckDBPyConnection, reader: Reader, run: range) -> None:
    """Copy the live chunks in order, and note in `moved` where each went: segment, old row, docid."""
    dead = reader.cursor().execute(f"SELECT segment, row FROM {reader.dead_rows}").to_arrow_table()
    con.register("dead_rows", dead)
    con.execute("CREATE TEMP TABLE dead AS FROM dead_rows")
    con.unregister("dead_rows")
    con.execute("CREATE TEMP TABLE moved (segment INTEGER, row INTEGER, docid INTEGER)")
    for i in run:
        con.execute(f"""
            INSERT INTO moved
            SELECT {i}, docid, (SELECT count(*) FROM moved) + row_number() OVER (ORDER BY docid) - 1
            FROM s{i}.chunks WHERE docid NOT IN (SELECT row FROM dead WHERE segment = {i})
        """)
        con.execute(f"""
            INSERT INTO chunks SELECT m.docid, c.* EXCLUDE (docid)
            FROM s{i}.chunks c JOIN (FROM moved WHERE segment = {i}) m ON m.row = c.docid
        """)


def _copy_postings(con: duckdb.DuckDBPyConnection, run: range) -> None:
    """Copy the live postings, renumbered."""
    counted = " UNION ALL ".join(f"SELECT term, df FROM s{i}.terms" for i in run)
    con.execute(f"""
        INSERT INTO terms SELECT row_number() OVER (ORDER BY term) - 1, term, sum(df) FROM ({counted})
        GROUP BY term ORDER BY term
    """)
    con.execute("CREATE TEMP TABLE termids (segment INTEGER, old INTEGER, termid INTEGER)")
    for i in run:
        con.execute(
            f"INSERT INTO termids SELECT {i}, o.termid, n.termid FROM s{i}.terms o JOIN terms n ON n.term = o.term"
        )
    rest = POSTINGS.removeprefix("termid, docid, ")
    for first, last in termid_ranges(con):
        # old and new numbers are both in the order of the terms, so a range of the one is a range of the other
        postings = " UNION ALL ".join(
            f"SELECT t.termid, m.docid, {rest} FROM s{i}.postings p "
            f"JOIN (FROM termids WHERE segment = {i} AND termid BETWEEN {first} AND {last}) t ON t.old = p.termid "
            f"JOIN (FROM moved WHERE segment = {i}) m ON m.row = p.docid"
            for i in run
        )
        con.execute(f"INSERT INTO postings SELECT {POSTINGS} FROM ({postings}) ORDER BY termid, docid")
    count_df(con)


def _copy_documents(con: duckdb.DuckDBPyConnection, reader: Reader, run: range) -> None:
    """Copy the live documents, and the tombstones that older segments may still need."""
    columns = f"* EXCLUDE (segment, first_chunk, {', '.join(LENGTHS)})"
    dead = reader.cursor().execute(f"SELECT segment, doc_id FROM {reader.dead_documents}").to_arrow_table()
    con.register("dead_documents", dead)
    documents = " UNION ALL ".join(
        f"SELECT {i} AS segment, * FROM s{i}.documents "
        f"WHERE doc_id NOT IN (SELECT doc_id FROM dead_documents WHERE segment = {i})"
        for i in run
    )
    con.execute(f"""
        INSERT INTO documents SELECT {columns.replace("*", "d.*", 1)}, m.docid, {", ".join(LENGTHS)}
        FROM ({documents}) d LEFT JOIN moved m ON m.segment = d.segment AND m.row = d.first_chunk
        ORDER BY doc_id
    """)
    con.unregister("dead_documents")
    if run.start:
        tombstones = " UNION ".join(f"SELECT doc_id FROM s{i}.tombstones" for i in run)
        con.execute(f"INSERT INTO tombstones {tombstones}")

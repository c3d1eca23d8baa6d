"""Read one generation: its segments attached READ_ONLY to an in-memory DuckDB, dead rows known.

A reader keeps its generation; nothing that a writer publishes later changes what it sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from schemas.errors import CorruptStore
from tasks.store import generation as generations
from tasks.store.connection import attach, connect
from tasks.store.generation import Generation, Segment


class ChunkRef(NamedTuple):
    """Where a chunk lies: segment number in the generation (0-based) and rowid in its chunks table."""

    segment: int
    row: int


class Reader:
    """One generation, open for reading. Safe across threads: every call works on a cursor of its own."""

    def __init__(self, store: Path, generation: Generation) -> None:
        self.store = store
        self.generation = generation
        self._con = connect()
        try:
            files = [store / "segments" / segment.file for segment in generation.segments]
            for i, path in enumerate(files):
                attach(self._con, path, self.alias(i))
            self.dead = _bury(self._con, len(files))
        except duckdb.Error as error:
            self._con.close()
            raise CorruptStore(
                f"a segment of generation {generation.number} in {store} cannot be read: {error}"
            ) from error

    @classmethod
    def open(cls, store: Path, number: int | None = None) -> Reader:
        """Open generation `number`, or the newest. Raises StoreNotFound, StoreFormat, CorruptStore."""
        return cls(store, generations.read(store, number))

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach the segments."""
        self._con.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of the calling thread's own."""
        return self._con.cursor()

    @staticmethod
    def alias(segment: int) -> str:
        """Name under which segment number `segment` is attached."""
        return f"segment_{segment}"

    def documents(self) -> pa.Table:
        """All live document rows, quarantined ones too; columns as in the segments' documents table, and `segment`."""
        return self._over_live(
            "SELECT {i} AS segment, d.* FROM {alias}.documents d "
            "WHERE d.doc_id NOT IN (SELECT doc_id FROM dead_documents WHERE segment = {i})"
        )

    def chunks_of(self, doc_ids: Iterable[str]) -> pa.Table:
        """The live chunks of some documents, embedding left out, in reading order."""
        table = self._over_live(
            "SELECT c.* EXCLUDE (embedding) FROM {alias}.chunks c WHERE c.doc_id IN (SELECT unnest($doc_ids)) "
            "AND c.doc_id NOT IN (SELECT doc_id FROM dead_documents WHERE segment = {i})",
            {"doc_ids": list(doc_ids)},
        )
        return table.sort_by([("doc_id", "ascending"), ("ordinal", "ascending")])

    def lookup(self, refs: Sequence[ChunkRef]) -> dict[ChunkRef, dict[str, Any]]:
        """Chunk and document columns of each of `refs`."""
        found: dict[ChunkRef, dict[str, Any]] = {}
        for segment in sorted({ref.segment for ref in refs}):
            rows = ",".join(str(ref.row) for ref in refs if ref.segment == segment)
            table = (
                self.cursor()
                .execute(f"""
                SELECT c.rowid AS row, c.chunk_id, c.title, c.headings, c.text, c.page, c.start, c."end", d.uri, d.path
                FROM {self.alias(segment)}.chunks c JOIN {self.alias(segment)}.documents d USING (doc_id)
                WHERE c.rowid IN ({rows})
            """)
                .to_arrow_table()
            )
            found |= {ChunkRef(segment, row.pop("row")): row for row in table.to_pylist()}
        return found

    def counted_segments(self) -> tuple[Segment, ...]:
        """The generation's segments, their counts taken from the files and the tombstones."""
        return tuple(self._counted(i) for i in range(len(self.generation.segments)))

    def _counted(self, segment: int) -> Segment:
        alias = self.alias(segment)
        row = (
            self.cursor()
            .execute(f"""
            SELECT (SELECT count(*) FROM {alias}.chunks), coalesce(sum(chunk_count), 0), coalesce(sum(length), 0),
                count(*) FILTER (error_kind IS NULL), count(*) FILTER (error_kind IS NOT NULL),
                (SELECT count(*) > 0 FROM duckdb_indexes() WHERE database_name = '{alias}' AND index_name = 'hnsw')
            FROM {alias}.documents
            WHERE doc_id NOT IN (SELECT doc_id FROM dead_documents WHERE segment = {segment})
        """)
            .fetchone()
        )
        assert row is not None  # an aggregate always has a row
        chunks, live_chunks, live_length, documents, quarantined, hnsw = row
        return replace(
            self.generation.segments[segment],
            chunks=chunks,
            live_chunks=int(live_chunks),  # sum() of integers is a HUGEINT
            live_length=int(live_length),
            live_documents=documents,
            live_quarantined=quarantined,
            hnsw=hnsw,
        )

    def _over_live(self, sql: str, parameters: dict[str, object] | None = None) -> pa.Table:
        parts = [sql.format(i=i, alias=self.alias(i)) for i in range(len(self.generation.segments))]
        return self.cursor().execute(" UNION ALL ".join(parts), parameters or {}).to_arrow_table()


def _bury(con: duckdb.DuckDBPyConnection, segments: int) -> tuple[int, ...]:
    """Collect dead documents and dead chunk rows in two tables; return the number of dead rows a segment.

    A tombstone buries its document in every older segment, never in its own or a newer one.
    """
    con.execute("CREATE TABLE tombstones (doc_id VARCHAR, segment INTEGER)")
    con.execute("CREATE TABLE dead_documents (segment INTEGER, doc_id VARCHAR)")
    con.execute("CREATE TABLE dead (segment INTEGER, row BIGINT)")
    for i in range(segments):
        con.execute(f"INSERT INTO tombstones SELECT doc_id, {i} FROM {Reader.alias(i)}.tombstones")
    for i in range(segments):
        con.execute(f"""
            INSERT INTO dead_documents SELECT {i}, doc_id FROM {Reader.alias(i)}.documents
            WHERE doc_id IN (SELECT doc_id FROM tombstones WHERE segment > {i})
        """)
        con.execute(f"""
            INSERT INTO dead SELECT {i}, unnest(range(first_chunk, first_chunk + chunk_count))
            FROM {Reader.alias(i)}.documents
            WHERE chunk_count > 0 AND doc_id IN (SELECT doc_id FROM dead_documents WHERE segment = {i})
        """)
    counts = dict(con.execute("SELECT segment, count(*) FROM dead GROUP BY segment").fetchall())
    return tuple(counts.get(i, 0) for i in range(segments))

"""Read one generation: its segments attached READ_ONLY, its dead rows known.

A reader keeps its generation, and its generation's files, until it is closed or forgotten; nothing that a writer
publishes later changes what it sees.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from schemas.errors import CorruptStore, StoreNotFound
from schemas.records import DOCUMENTS
from tasks.store import attachments
from tasks.store import generation as generations
from tasks.store.attachments import Attachments, alias_of
from tasks.store.connection import literals
from tasks.store.generation import Generation
from tasks.store.segment import LENGTHS


class ChunkRef(NamedTuple):
    """Where a chunk lies: segment number in the generation (0-based) and docid in it."""

    segment: int
    row: int


class Reader:
    """One generation, open for reading. Safe across threads: every call works on a cursor of its own."""

    _schemas = itertools.count()

    def __init__(self, store: Path, generation: Generation, lease: int | None = None) -> None:
        """Read `generation`; `lease` is the descriptor that keeps its files, closed with the reader."""
        self.store = store
        self.generation = generation
        self._schema = f"reader_{next(Reader._schemas)}"
        try:
            with attachments.lock:
                self._attached = Attachments.of(store)
                self._attached.acquire(generation.segments)
                self._close = weakref.finalize(self, _release, self._attached, generation, self._schema, lease)
                self._bury()
        except duckdb.Error as error:
            if hasattr(self, "_close"):
                self.close()
            elif lease is not None:
                os.close(lease)
            raise CorruptStore(
                f"a segment of generation {generation.number} in {store} cannot be read: {error}; "
                f"find the damage with: headrace verify --store {store}"
            ) from error

    @classmethod
    def open(cls, store: Path, number: int | None = None) -> Reader:
        """Open generation `number`, or the newest.

        Raises StoreNotFound, NoSuchGeneration, StoreFormat, CorruptStore.
        """
        generation, lease = generations.read_leased(store, number)
        return cls(store, generation, lease)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the generation's files."""
        self._close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of the calling thread's own."""
        return self._attached.con.cursor()

    def alias(self, segment: int) -> str:
        """Name under which segment number `segment` is attached."""
        return alias_of(self.generation.segments[segment])

    @property
    def dead_rows(self) -> str:
        """Table of dead chunks: segment, row. Ask it only for segments that have any."""
        return f"{self._schema}.dead"

    @property
    def dead_documents(self) -> str:
        """Table of dead document rows: segment, doc_id."""
        return f"{self._schema}.dead_documents"

    def _bury(self) -> None:
        """Collect dead documents and dead chunk rows. A tombstone buries its document in every older segment."""
        con, segments = self._attached.con, self.generation.segments
        con.execute(f"CREATE SCHEMA {self._schema}")
        con.execute(f"CREATE TABLE {self.dead_documents} (segment INTEGER, doc_id VARCHAR)")
        con.execute(f"CREATE TABLE {self.dead_rows} (segment INTEGER, row BIGINT)")
        decayed = [i for i, s in enumerate(segments) if s.live_documents + s.live_quarantined < s.documents]
        if not decayed:
            return
        tombstones = " UNION ALL ".join(
            f"SELECT {k} AS segment, doc_id FROM {self.alias(k)}.tombstones"
            for k, s in enumerate(segments)
            if s.tombstones
        )
        buried = " UNION ALL ".join(
            f"SELECT {i} AS segment, doc_id, first_chunk, chunk_count FROM {self.alias(i)}.documents "
            f"JOIN last USING (doc_id) WHERE last.segment > {i}"
            for i in decayed
        )
        con.execute(f"""
            CREATE TABLE {self._schema}.buried AS
            WITH last AS (SELECT doc_id, max(segment) AS segment FROM ({tombstones}) GROUP BY doc_id) {buried}
        """)
        con.execute(f"INSERT INTO {self.dead_documents} SELECT segment, doc_id FROM {self._schema}.buried")
        con.execute(f"""
            INSERT INTO {self.dead_rows} SELECT segment, unnest(range(first_chunk, first_chunk + chunk_count))
            FROM {self._schema}.buried WHERE chunk_count > 0
        """)
        con.execute(f"DROP TABLE {self._schema}.buried")

    def _alive(self, segment: int) -> str:
        """SQL condition on doc_id: not buried."""
        return f"doc_id NOT IN (SELECT doc_id FROM {self.dead_documents} WHERE segment = {segment})"

    def live_documents(self, columns: str = "*") -> str:
        """SQL for live document rows, quarantined ones too: `segment` and columns of a segment."""
        parts = [
            f"SELECT {i} AS segment, {columns} FROM {self.alias(i)}.documents WHERE {self._alive(i)}"
            for i in range(len(self.generation.segments))
        ]
        return " UNION ALL ".join(parts)

    def documents(self, doc_ids: Iterable[str] | None = None) -> pa.Table:
        """Live document rows, or those of `doc_ids`, quarantined ones too; `segment` and the columns of a segment."""
        if not self.generation.segments:
            return _LIVE_DOCUMENTS.empty_table()
        wanted = "" if doc_ids is None else "WHERE doc_id IN (SELECT unnest($doc_ids))"
        parameters = {} if doc_ids is None else {"doc_ids": list(doc_ids)}
        return self.cursor().execute(f"FROM ({self.live_documents()}) {wanted}", parameters).to_arrow_table()

    def tombstones(self, segments: Iterable[int]) -> list[str]:
        """The doc_ids that some of the segments bury."""
        parts = [f"SELECT doc_id FROM {self.alias(i)}.tombstones" for i in segments]
        return [doc_id for part in parts for (doc_id,) in self.cursor().execute(part).fetchall()]

    def chunks_of(self, doc_ids: Iterable[str]) -> pa.Table:
        """The live chunks of some documents, embedding left out, in reading order."""
        rows = self.documents(doc_ids).select(["segment", "first_chunk", "chunk_count"]).to_pylist()
        ranges = [(row["segment"], row["first_chunk"], row["chunk_count"]) for row in rows if row["chunk_count"]]
        parts = [
            f"SELECT * EXCLUDE (docid, embedding) FROM {self.alias(segment)}.chunks "
            f"WHERE docid IN ({', '.join(map(str, range(first, first + count)))})"
            for segment, first, count in ranges
        ] or [f"SELECT * EXCLUDE (docid, embedding) FROM {self.alias(0)}.chunks LIMIT 0"]
        table = pa.concat_tables([self.cursor().execute(part).to_arrow_table() for part in parts])
        return table.sort_by([("doc_id", "ascending"), ("ordinal", "ascending")])

    def lookup(self, refs: Sequence[ChunkRef]) -> dict[ChunkRef, dict[str, Any]]:
        """Chunk and document columns of each of `refs`."""
        columns = 'title, headings, text, page, start, "end"'
        chunks = self.fetch(refs, f"chunk_id, doc_id, {columns}")
        found: dict[ChunkRef, dict[str, Any]] = {}
        for segment in {ref.segment for ref in refs}:
            doc_ids = {chunks[ref][1] for ref in refs if ref.segment == segment}
            rows = self.cursor().execute(
                f"SELECT doc_id, uri, path FROM {self.alias(segment)}.documents WHERE doc_id IN ({literals(doc_ids)})"
            )
            places = {doc_id: place for doc_id, *place in rows.fetchall()}
            for ref in refs:
                if ref.segment == segment:
                    chunk_id, doc_id, *values = chunks[ref]
                    names = ("chunk_id", *columns.replace('"', "").split(", "), "uri", "path")
                    found[ref] = dict(zip(names, (chunk_id, *values, *places[doc_id]), strict=True))
        return found

    def fetch(
        self, refs: Iterable[ChunkRef], columns: str, parameters: dict[str, Any] | None = None
    ) -> dict[ChunkRef, tuple[Any, ...]]:
        """Some columns, or SQL expressions over them, of some chunks."""
        wanted = list(refs)
        fetched = self.cursor().execute(self._of(wanted, columns), parameters or {}).fetchall() if wanted else []
        return {ChunkRef(segment, row): tuple(values) for segment, row, *values in fetched}

    def embeddings(self, refs: Sequence[ChunkRef]) -> np.ndarray:
        """float32[n, dim], the vectors of one or more chunks."""
        # lists of Python's numbers would take twice as long
        table = self.cursor().execute(self._of(refs, "embedding")).to_arrow_table()
        vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        found = zip(table["segment"].to_pylist(), table["row"].to_pylist(), strict=True)
        places = {ChunkRef(*at): place for place, at in enumerate(found)}
        return np.asarray(vectors[[places[ref] for ref in refs]])

    def _of(self, refs: Iterable[ChunkRef], columns: str) -> str:
        """SQL for segment, row and some columns of some chunks."""
        rows_of: dict[int, list[str]] = {}
        for ref in refs:
            rows_of.setdefault(ref.segment, []).append(str(ref.row))
        # a list of literals, which DuckDB looks up in the index on docid; a join would scan
        return " UNION ALL ".join(
            f"SELECT {segment} AS segment, docid AS row, {columns} FROM {self.alias(segment)}.chunks "
            f"WHERE docid IN ({', '.join(rows)})"
            for segment, rows in rows_of.items()
        )

    def best(self, scored: Sequence[tuple[ChunkRef, float]], limit: int, digits: int) -> list[tuple[ChunkRef, float]]:
        """The `limit` highest scores, best first; scores equal to `digits` decimals in the order of chunk_id."""
        rounded = {ref: round(score, digits) for ref, score in scored}
        often = Counter(rounded.values())
        ids = self.fetch([ref for ref, score in rounded.items() if often[score] > 1], "chunk_id")
        ranked = sorted(scored, key=lambda item: (-rounded[item[0]], ids.get(item[0], ())))
        return ranked[:limit]


_LIVE_DOCUMENTS = pa.schema(
    [("segment", pa.int32()), *DOCUMENTS, *((name, pa.int64()) for name in ("first_chunk", *LENGTHS))]
)


def _release(attached: Attachments, generation: Generation, schema: str, lease: int | None) -> None:
    with attachments.lock:
        attached.con.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        attached.release(generation.segments)
    if lease is not None:
        os.close(lease)


_newest: dict[Path, tuple[tuple[int, int], Reader]] = {}
_newest_lock = threading.Lock()


def newest(store: Path) -> Reader:
    """The process's reader of `store`, moved to the newest generation; costs one stat while there is no newer one.

    An older reader stays open for whoever still uses it. Raises as Reader.open.
    """
    with _newest_lock:
        try:
            stat = os.stat(store / "CURRENT")  # noqa: PTH116 Path.stat() costs as much again
        except (FileNotFoundError, NotADirectoryError):
            _newest.pop(store, None)
            raise StoreNotFound(
                f"no store at {store}; build one with: headrace ingest FOLDER --store {store}"
            ) from None
        version = (stat.st_ino, stat.st_mtime_ns)
        known = _newest.get(store)
        if known is None or known[0] != version:
            known = _newest[store] = (version, Reader.open(store))
        return known[1]


@contextmanager
def reading(store: Path, generation: Generation) -> Iterator[Reader]:
    """A reader of `generation`: the process's own where it reads the same, else one that is closed after use."""
    if store in _newest and (known := newest(store)).generation == generation:
        yield known
        return
    with Reader(store, generation) as reader:
        yield reader

"""SQL on a store: a DuckDB connection with views of the live rows, for people, pandas, Polars and BI tools.

documents    one row an indexed document
chunks       one row a chunk: its columns, embedding FLOAT[dim], and its document's uri, path, source and file_type
quarantine   one row a file that could not be parsed, with error_kind and error
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import duckdb

from schemas.errors import CorruptStore
from tasks.store import connection, generation
from tasks.store.attachments import alias_of
from tasks.store.generation import Generation
from tasks.store.segment import LENGTHS


def connect(store: Path, number: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection to the newest generation, or generation `number`, of `store`; it cannot change the store.

    What it sees stays as it is, and is kept, for as long as the connection lives.

    >>> connect(Path("index")).sql("SELECT file_type, count(*) FROM documents GROUP BY ALL").df()  # doctest: +SKIP

    Raises StoreNotFound, NoSuchGeneration, StoreFormat, CorruptStore.
    """
    live, lease = generation.read_leased(store, number)
    con = connection.connect()
    weakref.finalize(con, os.close, lease)
    try:
        for segment in live.segments:
            connection.attach(con, segment.path(store), alias_of(segment))
        _create_views(con, live)
    except duckdb.Error as error:
        raise CorruptStore(
            f"a segment of {store} cannot be read: {error}; see: headrace verify --store {store}"
        ) from error
    return con


def _create_views(con: duckdb.DuckDBPyConnection, live: Generation) -> None:
    aliases = [alias_of(segment) for segment in live.segments]
    documents, chunks = [], []
    for i, alias in enumerate(aliases):
        newer = "".join(f" UNION ALL SELECT doc_id FROM {later}.tombstones" for later in aliases[i + 1 :])
        alive = f"doc_id NOT IN (SELECT NULL::VARCHAR AS doc_id WHERE false{newer})"
        documents.append(f"SELECT * EXCLUDE (first_chunk, {', '.join(LENGTHS)}) FROM {alias}.documents WHERE {alive}")
        chunks.append(
            f"SELECT c.* EXCLUDE (docid), d.uri, d.path, d.source, d.file_type FROM {alias}.chunks c "
            f"JOIN (SELECT doc_id, uri, path, source, file_type FROM {alias}.documents WHERE {alive}) d USING (doc_id)"
        )
    rows = f"({' UNION ALL '.join(documents)})"
    con.execute(f"CREATE VIEW documents AS SELECT * EXCLUDE (error_kind, error) FROM {rows} WHERE error_kind IS NULL")
    con.execute(
        "CREATE VIEW quarantine AS SELECT path, uri, source, file_type, size, mtime_ns, error_kind, error "
        f"FROM {rows} WHERE error_kind IS NOT NULL"
    )
    con.execute(f"CREATE VIEW chunks AS {' UNION ALL '.join(chunks)}")

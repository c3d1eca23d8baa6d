"""Build one segment from Parquet: an immutable DuckDB file, and the Parquet that it can be made again from.

In: Parquet of DOCUMENTS and CHUNKS, the ledger's Parquet parts, doc_ids to bury. Out, closed and checkpointed:

    <name>.duckdb
        documents   DOCUMENTS + first_chunk (docid) and lengths (terms in its chunks), sorted by doc_id
        chunks      docid + CHUNKS + embedding FLOAT[dim]; docid counts from 0, a document's chunks in a row
        tombstones  doc_ids that are dead in every older segment
        terms       termid, term, df                    sorted by term
        postings    termid, docid, tf, len, …           sorted by termid, docid; docid is the chunk's
    <name>.documents.parquet, <name>.chunks.parquet, and <name>.tombstones.parquet where there are any

Postings lie in an order that zone maps prune, with all that BM25 needs beside them. DuckDB's own FTS index, which is
scanned whole for every query, is written only where other DuckDB clients shall query the file (tasks.store.fts).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from schemas.errors import CorruptStore
from tasks.store.connection import build_in, quoted, scalar
from tasks.store.files import sha256
from tasks.store.generation import Analyzer, Generation, Segment
from tasks.store.terms import stopwords, tokens_sql

# Chunks tokenized at once: some 13 million words, 1 GB of DuckDB's memory.
SLICE = 50_000

# Postings sorted at once: 32 bytes each. DuckDB's sort of 100 million does not keep to 2 GB.
SORTED = 8_000_000

# Chunks from which rows are fetched by an index; without one, of each row 2,048 neighbours are read, vectors and all.
INDEXED_ROWS = 4_096

DOCUMENT_COLUMNS = """
    doc_id VARCHAR, uri VARCHAR, source VARCHAR, path VARCHAR, title VARCHAR, file_type VARCHAR, size BIGINT,
    mtime_ns BIGINT, content_hash VARCHAR, fingerprint VARCHAR, chunk_count INTEGER, metadata VARCHAR,
    error_kind VARCHAR, error VARCHAR"""
# text is fetched by row: a compressed one costs 1 ms a row, since 2,048 neighbours are unpacked with it
CHUNK_COLUMNS = """
    docid INTEGER, chunk_id VARCHAR, doc_id VARCHAR, ordinal INTEGER, chunk_hash VARCHAR, title VARCHAR,
    headings VARCHAR,
    text VARCHAR USING COMPRESSION uncompressed, page INTEGER, start INTEGER, "end" INTEGER, tokens INTEGER"""
LENGTHS = ("length", "title_length", "headings_length")
POSTINGS = "termid, docid, tf, title_tf, headings_tf, len, title_len, headings_len"


def build_segment(
    path: Path,
    identity: Generation,
    *,
    documents: Sequence[Path],
    chunks: Sequence[Path],
    ledger: Sequence[Path],
    tombstones: Sequence[str],
    skip: Sequence[str] = (),
    hnsw_min_rows: int,
    memory_mb: int,
) -> Segment:
    """Write a segment's files to `path` (a .duckdb that must not exist) and beside it; its rows are all live.

    `skip` are doc_ids to leave out. `identity` gives dimension and analyzer.

    Raises CorruptStore where a chunk has no vector in the ledger.
    """
    rows = sum(pq.read_metadata(part).num_rows for part in chunks)
    with build_in(path, rows=rows, memory_mb=memory_mb, vectors=rows >= hnsw_min_rows) as con:
        create_tables(con, identity.dim)
        _load_chunks(con, documents, chunks, ledger, skip, identity.dim)
        index_terms(con, identity.analyzer)
        _load_documents(con, documents, skip)
        con.execute("INSERT INTO tombstones SELECT unnest(?)", [list(tombstones)])
        hnsw = scalar(con, "SELECT count(*) FROM chunks") >= hnsw_min_rows
        if hnsw:
            index_vectors(con)
        return finish(con, path, hnsw=hnsw)


def create_tables(con: duckdb.DuckDBPyConnection, dim: int) -> None:
    """The tables of an empty segment."""
    con.execute("CREATE TABLE tombstones (doc_id VARCHAR)")
    con.execute(f"CREATE TABLE chunks ({CHUNK_COLUMNS}, embedding FLOAT[{dim}])")
    lengths = ", ".join(f"{length} BIGINT" for length in LENGTHS)
    con.execute(f"CREATE TABLE documents ({DOCUMENT_COLUMNS}, first_chunk BIGINT, {lengths})")
    con.execute("CREATE TABLE terms (termid INTEGER, term VARCHAR, df BIGINT)")
    con.execute(f"CREATE TABLE postings ({POSTINGS.replace(',', ' INTEGER,')} INTEGER)")


def _load_chunks(
    con: duckdb.DuckDBPyConnection,
    documents: Sequence[Path],
    chunks: Sequence[Path],
    ledger: Sequence[Path],
    skip: Sequence[str],
    dim: int,
) -> None:
    if not chunks:
        return
    con.execute(
        """
        CREATE TEMP TABLE incoming AS
        SELECT row_number() OVER (ORDER BY d.source, d.path, doc_id, ordinal) - 1 AS docid, c.*
        FROM read_parquet($chunks) c JOIN (SELECT doc_id, source, path FROM read_parquet($documents)) d USING (doc_id)
        WHERE doc_id NOT IN (SELECT unnest($skip))
        """,
        {"chunks": _names(chunks), "documents": _names(documents), "skip": list(skip)},
    )
    count = scalar(con, "SELECT count(*) FROM incoming")
    for start in range(0, count if ledger else 0, SLICE):
        piece = f"(FROM incoming WHERE docid BETWEEN {start} AND {start + SLICE - 1})"
        # a text embedded by two runs at once stands twice in the ledger
        con.execute(
            f"""
            INSERT INTO chunks SELECT c.*, v.embedding::FLOAT[{dim}]
            FROM {piece} c JOIN (
                SELECT chunk_hash, any_value(embedding) AS embedding FROM read_parquet($ledger)
                WHERE chunk_hash IN (SELECT chunk_hash FROM {piece}) GROUP BY chunk_hash
            ) v USING (chunk_hash)
            ORDER BY docid
            """,
            {"ledger": _names(ledger)},
        )
    without = count - scalar(con, "SELECT count(embedding) FROM chunks")
    if without:
        raise CorruptStore(f"{without} chunks have no vector in the ledger; run ingest again to embed them")
    con.execute("DROP TABLE incoming")


def index_terms(con: duckdb.DuckDBPyConnection, analyzer: Analyzer) -> None:
    """Fill `terms` and `postings` from the texts of `chunks`, as `create_fts_index` would, slice by slice.

    Leaves the chunks' lengths in the temporary table `lengths`.
    """
    con.execute("CREATE TEMP TABLE vocabulary (word VARCHAR, key INTEGER)")  # key: of the word's stem
    con.execute("CREATE TEMP TABLE stems (term VARCHAR, key INTEGER)")
    con.execute(
        "CREATE TEMP TABLE counted (key INTEGER, docid INTEGER, tf INTEGER, title_tf INTEGER, headings_tf INTEGER)"
    )
    con.execute("CREATE TEMP TABLE stopwords AS SELECT unnest(?::VARCHAR[]) AS word", [stopwords(analyzer.stopwords)])
    for start in range(0, scalar(con, "SELECT count(*) FROM chunks"), SLICE):
        _count_terms(con, analyzer, start)
    con.execute("""
        INSERT INTO terms SELECT row_number() OVER (ORDER BY term) - 1, term, df
        FROM stems JOIN (SELECT key, count(*) AS df FROM counted GROUP BY key) USING (key) ORDER BY term
    """)
    con.execute("""
        CREATE TEMP TABLE lengths AS
        SELECT docid, sum(tf) AS len, sum(title_tf) AS title_len, sum(headings_tf) AS headings_len FROM counted GROUP BY
        docid
    """)
    for first, last in termid_ranges(con):
        con.execute(f"""
            INSERT INTO postings SELECT {POSTINGS}
            FROM counted JOIN (
                SELECT key, termid FROM stems JOIN terms USING (term) WHERE termid BETWEEN {first} AND {last}
            ) USING (key) JOIN lengths USING (docid)
            ORDER BY termid, docid
        """)
    for table in ("vocabulary", "stems", "counted", "stopwords"):
        con.execute(f"DROP TABLE {table}")


def termid_ranges(con: duckdb.DuckDBPyConnection) -> list[tuple[int, int]]:
    """First and last termid of parts of `terms` whose postings can be sorted in little memory."""
    return con.execute(f"""
        SELECT min(termid), max(termid) FROM (
            SELECT termid, sum(df) OVER (ORDER BY termid) // {SORTED} AS part FROM terms
        ) GROUP BY part ORDER BY part
    """).fetchall()


def _count_terms(con: duckdb.DuckDBPyConnection, analyzer: Analyzer, start: int) -> None:
    words = " UNION ALL ".join(
        f"SELECT docid, {field} AS field, unnest({tokens_sql(analyzer.tokenizer, column)}) AS word "
        f"FROM chunks WHERE docid BETWEEN {start} AND {start + SLICE - 1}"
        for field, column in enumerate(("title", "headings", "text"))
    )
    con.execute(f"CREATE TEMP TABLE words AS {words}")
    con.execute(f"""
        CREATE TEMP TABLE fresh AS
        SELECT word, stem(word, '{analyzer.stemmer}') AS term FROM (SELECT DISTINCT word FROM words)
        WHERE word <> '' AND word NOT IN (FROM stopwords) AND word NOT IN (SELECT word FROM vocabulary)
    """)
    con.execute("""
        INSERT INTO stems SELECT term, row_number() OVER () + (SELECT count(*) FROM stems)
        FROM (SELECT DISTINCT term FROM fresh WHERE term NOT IN (SELECT term FROM stems))
    """)
    con.execute("INSERT INTO vocabulary SELECT word, key FROM fresh JOIN stems USING (term)")
    con.execute("""
        INSERT INTO counted
        SELECT key, docid, count(*), count(*) FILTER (field = 0), count(*) FILTER (field = 1)
        FROM words JOIN vocabulary USING (word) GROUP BY key, docid
    """)
    con.execute("DROP TABLE words")
    con.execute("DROP TABLE fresh")


def count_df(con: duckdb.DuckDBPyConnection) -> None:
    """Set each term's document frequency from the postings, and drop terms without any."""
    con.execute("""
        CREATE TEMP TABLE counts AS SELECT termid, term, n FROM terms
        JOIN (SELECT termid, count(*) AS n FROM postings GROUP BY termid) USING (termid) ORDER BY term
    """)
    con.execute("DELETE FROM terms")
    con.execute("INSERT INTO terms FROM counts")
    con.execute("DROP TABLE counts")


def _load_documents(con: duckdb.DuckDBPyConnection, documents: Sequence[Path], skip: Sequence[str]) -> None:
    if not documents:
        return
    con.execute(
        """
        INSERT INTO documents
        SELECT d.*, c.first_chunk, coalesce(length, 0), coalesce(title_length, 0), coalesce(headings_length, 0)
        FROM read_parquet($documents) d
        LEFT JOIN (SELECT doc_id, min(docid) AS first_chunk FROM chunks GROUP BY doc_id) c USING (doc_id)
        LEFT JOIN (
            SELECT doc_id, sum(len) AS length, sum(title_len) AS title_length, sum(headings_len) AS headings_length
            FROM lengths JOIN chunks USING (docid) GROUP BY doc_id
        ) l USING (doc_id)
        WHERE doc_id NOT IN (SELECT unnest($skip))
        ORDER BY d.doc_id
        """,
        {"documents": _names(documents), "skip": list(skip)},
    )


def index_vectors(con: duckdb.DuckDBPyConnection) -> None:
    """Build the HNSW index of `chunks`; it is held in memory while it is built, outside DuckDB's limit."""
    # persistence is called experimental because of WAL recovery; a segment is checkpointed before it is published
    # and never written again, so no WAL of it is ever read
    con.execute("SET hnsw_enable_experimental_persistence = true")
    con.execute("CREATE INDEX hnsw ON chunks USING HNSW (embedding) WITH (metric = 'cosine')")


def finish(con: duckdb.DuckDBPyConnection, path: Path, *, hnsw: bool, fts: bool = False) -> Segment:
    """Write the Parquet beside a segment that is complete, close it, and return its manifest entry."""
    tables = {"documents": f"* EXCLUDE (first_chunk, {', '.join(LENGTHS)})", "chunks": "* EXCLUDE (docid, embedding)"}
    tombstones = scalar(con, "SELECT count(*) FROM tombstones")
    if tombstones:
        tables["tombstones"] = "*"
    for table, columns in tables.items():
        parquet = path.with_suffix(f".{table}.parquet")
        con.execute(f"COPY (SELECT {columns} FROM {table}) TO '{quoted(parquet)}' (COMPRESSION zstd)")
    row = con.execute(f"""
        SELECT count(*), count(*) FILTER (error_kind IS NULL), {", ".join(f"coalesce(sum({n}), 0)" for n in LENGTHS)}
        FROM documents
    """).fetchone()
    assert row is not None  # an aggregate always has a row
    documents, indexed, *lengths = map(int, row)
    chunks = scalar(con, "SELECT count(*) FROM chunks")
    if chunks >= INDEXED_ROWS:
        con.execute("CREATE UNIQUE INDEX by_docid ON chunks (docid)")
        con.execute("CREATE UNIQUE INDEX by_doc_id ON documents (doc_id)")
        con.execute("CREATE UNIQUE INDEX by_term ON terms (term)")
    con.execute("CHECKPOINT")
    con.close()
    files = {suffix: path.with_suffix(f".{suffix}") for suffix in ("duckdb", *(f"{table}.parquet" for table in tables))}
    return Segment(
        name=path.stem,
        digests={suffix: sha256(file) for suffix, file in files.items()},
        bytes=sum(file.stat().st_size for file in files.values()),
        documents=documents,
        chunks=chunks,
        tombstones=tombstones,
        live_documents=indexed,
        live_quarantined=documents - indexed,
        live_chunks=chunks,
        live_length=lengths[0],
        live_title_length=lengths[1],
        live_headings_length=lengths[2],
        hnsw=hnsw,
        fts=fts,
    )


def _names(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]

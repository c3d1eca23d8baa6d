"""DuckDB's own FTS index, written from our postings, so that `fts_main_chunks.match_bm25` works on a file of ours.

`PRAGMA create_fts_index` on the empty table makes the schema and the macros; the tables are then filled without
tokenizing again. Their layout is that of DuckDB's fts extension 1.5.5 (extension/fts/fts_indexing.cpp).
"""

from __future__ import annotations

import duckdb

from tasks.store.generation import Analyzer
from tasks.store.terms import IGNORE, tokens_sql


def create_fts_schema(con: duckdb.DuckDBPyConnection, analyzer: Analyzer) -> None:
    """Make the index of the still empty `chunks` table; its queries tokenize as our index does."""
    con.execute(f"""
        PRAGMA create_fts_index('chunks', 'chunk_id', 'title', 'headings', 'text',
            stemmer = '{analyzer.stemmer}', stopwords = '{analyzer.stopwords}', ignore = '{IGNORE[analyzer.tokenizer]}')
    """)
    con.execute(f"CREATE OR REPLACE MACRO fts_main_chunks.tokenize(s) AS {tokens_sql(analyzer.tokenizer, 's')}")


def fill_fts_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Fill the index from `chunks`, `terms` and `postings`; a term that occurs n times gets n rows."""
    con.execute("DELETE FROM fts_main_chunks.docs")
    con.execute("DELETE FROM fts_main_chunks.stats")
    con.execute("""
        INSERT INTO fts_main_chunks.docs
        SELECT docid, chunk_id, coalesce(len, 0)
        FROM chunks LEFT JOIN (SELECT docid, any_value(len) AS len FROM postings GROUP BY docid) USING (docid)
        ORDER BY docid
    """)
    con.execute("INSERT INTO fts_main_chunks.dict SELECT termid, term, df FROM terms")
    for field, tf in enumerate(("title_tf", "headings_tf", "tf - title_tf - headings_tf")):
        con.execute(f"""
            INSERT INTO fts_main_chunks.terms SELECT docid, {field}, termid
            FROM (SELECT docid, termid, unnest(range({tf})) FROM postings WHERE {tf} > 0)
        """)
    con.execute("INSERT INTO fts_main_chunks.stats SELECT count(*), avg(len) FROM fts_main_chunks.docs")

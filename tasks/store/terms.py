"""Text to terms, as SQL: the tokenizer, stemmer and stopwords of an index and of the queries on it.

DuckDB's FTS tokenizes with one regular expression that names what is dropped (`ignore`) and splits at white space; see
https://duckdb.org/docs/stable/core_extensions/full_text_search. Three tokenizers:

    duckdb  its default, letters a to z: drops `E1234`'s digits and every other script
    words   letters and digits of any script: `TLS1.3` gives tls1, 3
    codes   words, and compounds whole besides: `TLS1.3` gives tls1, 3, tls1.3; `CREATE_FAILED` gives create, failed,
            create_failed. So both the exact identifier and its parts are found; what search engines call a word
            delimiter that preserves the original.

An identifier in a question, as opposed to words that a hyphen joins, has another joint than that (`rds.force_ssl`),
three parts or more (`x-amz-server-side-encryption`), or two capitals inside a word (`PutMetricAlarm`). Names with one,
or with digits (`CloudWatch`, `IL6`), are words like others: to weigh them too made the answers of SciFact worse.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import duckdb

from tasks.store.connection import connect
from tasks.store.generation import Analyzer

IGNORE = {"duckdb": r"(\\.|[^a-z])+", "words": r"[^\pL\pN]+", "codes": r"[^\pL\pN]+"}
COMPOUND = r"[\pL\pN]+(?:(?:::|://|[._:/@+\-])[\pL\pN]+)+"

# COMPOUND or a single word, and what makes it an identifier, in Python's syntax
WORD = re.compile(r"[^\W_]+(?:(?:::|://|[._:/@+\-])[^\W_]+)*")
_IDENTIFIER = re.compile(r"[._:/@+]|-.*-|[a-z][A-Z][a-z].*[a-z][A-Z][a-z]")


def tokens_sql(tokenizer: str, text: str, *, ascii_only: bool = False) -> str:
    """SQL for the list of words of the SQL expression `text`, empty ones included.

    `ascii_only` is for a text that is known to be so: the same words, but RE2 takes 3 ms to prepare Unicode's classes.
    """
    plain = f"lower(strip_accents({text}::VARCHAR))"
    words = rf"string_split_regex(regexp_replace({plain}, '{IGNORE[tokenizer]}', ' ', 'g'), '\s+')"
    found = f"list_concat({words}, regexp_extract_all({plain}, '{COMPOUND}'))" if tokenizer == "codes" else words
    return found.replace(r"\pL\pN", "a-z0-9") if ascii_only else found


def query_terms(con: duckdb.DuckDBPyConnection, query: str, analyzer: Analyzer) -> list[str]:
    """The distinct stems of `query`, as the index made those of the chunks; stopwords are not in the index."""
    words = tokens_sql(analyzer.tokenizer, "$query", ascii_only=query.isascii())
    rows = con.execute(
        f"SELECT DISTINCT stem(word, '{analyzer.stemmer}') FROM (SELECT unnest({words}) AS word) "
        "WHERE word <> '' ORDER BY 1",
        {"query": query},
    )
    return [term for (term,) in rows.fetchall()]


def identifiers(query: str) -> list[str]:
    """The identifiers in `query`, as they stand there."""
    return [word for word in WORD.findall(query) if _IDENTIFIER.search(word)]


def identifier_terms(con: duckdb.DuckDBPyConnection, query: str, analyzer: Analyzer) -> list[str]:
    """The distinct stems of the identifiers in `query`, whole."""
    return sorted(set(stems(con, identifiers(query), analyzer).values()))


def stems(con: duckdb.DuckDBPyConnection, words: Iterable[str], analyzer: Analyzer) -> dict[str, str]:
    """The term that the index would make of each of `words`, none of them cut."""
    distinct = sorted(set(words))
    if not distinct:
        return {}
    rows = con.execute(
        f"SELECT word, stem(lower(strip_accents(word)), '{analyzer.stemmer}') FROM (SELECT unnest($words) AS word)",
        {"words": distinct},
    )
    return dict(rows.fetchall())


@functools.cache
def stopwords(name: str) -> list[str]:
    """The words of DuckDB's list `name`: english or none."""
    with connect(vectors=False) as con:
        con.execute("CREATE TABLE t (id INTEGER, text VARCHAR)")
        con.execute(f"PRAGMA create_fts_index('t', 'id', 'text', stopwords = '{name}')")
        return [word for (word,) in con.execute("FROM fts_main_t.stopwords").fetchall()]

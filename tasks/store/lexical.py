"""BM25 over the live postings of all segments.

Scores are DuckDB's `match_bm25`'s (Okapi BM25 with k1 = 1.2, b = 0.75, a base-10 logarithm and idf smoothed by + 1, see
Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"), with N, average length and df of the whole live
corpus, so that they do not depend on how documents fell into segments.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.store.reader import ChunkRef, Reader

K1 = 1.2
B = 0.75

# What separates words, an RE2 class. DuckDB's default drops digits too, and with them `0.0.0.0` and error codes.
IGNORE = r"[^\pL\pN]+"


def query_terms(reader: Reader, query: str) -> list[str]:
    """The distinct stems of `query`, as the FTS index made those of the chunks."""
    rows = reader.cursor().execute(
        f"""
        SELECT DISTINCT stem(word, ?) FROM (
            SELECT unnest(
                string_split_regex(regexp_replace(lower(strip_accents(?)), '{IGNORE}', ' ', 'g'), '\\s+')
            ) AS word
        ) WHERE word <> '' ORDER BY 1
        """,
        [reader.generation.stemmer, query],
    )
    return [term for (term,) in rows.fetchall()]


def bm25(
    reader: Reader, query: str, limit: int | None, *, among: Sequence[ChunkRef] | None = None
) -> list[tuple[ChunkRef, float]]:
    """The `limit` best live chunks for `query`, or the scores of those `among` that match; best first."""
    terms = query_terms(reader, query)
    live = [i for i, segment in enumerate(reader.generation.segments) if segment.live_chunks]
    if not terms or not live:
        return []
    chunks = reader.generation.chunks
    average = sum(segment.live_length for segment in reader.generation.segments) / chunks
    matches = " UNION ALL ".join(_matches(reader, i) for i in live)
    wanted = (
        ""
        if among is None
        else "SEMI JOIN (SELECT unnest($among) AS ref) ON struct_pack(s := segment, r := docid) = ref"
    )
    parameters: dict[str, object] = {"terms": terms}
    if among is not None:
        parameters["among"] = [{"s": ref.segment, "r": ref.row} for ref in among]
    rows = reader.cursor().execute(
        f"""
        WITH matches AS MATERIALIZED ({matches}),
        df AS (SELECT term, count(*) AS df FROM matches GROUP BY term)
        SELECT segment, docid, sum(
            log10(({chunks} - df + 0.5) / (df + 0.5) + 1)
            * tf * {K1 + 1} / (tf + {K1} * (1 - {B} + {B} * len / {average!r}))
        ) AS score
        FROM matches JOIN df USING (term) {wanted}
        GROUP BY segment, docid
        ORDER BY score DESC, segment, docid
        {"" if limit is None else f"LIMIT {int(limit)}"}
        """,
        parameters,
    )
    return [(ChunkRef(segment, row), score) for segment, row, score in rows.fetchall()]


def _matches(reader: Reader, segment: int) -> str:
    alias = reader.alias(segment)
    dead = (
        f"ANTI JOIN (SELECT row FROM dead WHERE segment = {segment}) d ON d.row = p.docid"
        if reader.dead[segment]
        else ""
    )
    return f"""
        SELECT {segment} AS segment, t.term, p.docid, p.tf, p.len
        FROM {alias}.postings p JOIN {alias}.terms t USING (termid) {dead}
        WHERE t.term IN (SELECT unnest($terms))
    """

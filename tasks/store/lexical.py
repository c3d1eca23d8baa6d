"""BM25 over the live postings of all segments, in one SQL statement.

Scores are DuckDB's `match_bm25`'s (Okapi BM25 with k1 = 1.2, b = 0.75, a base-10 logarithm and idf smoothed by + 1, see
Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"), with N, average length and df of the whole live
corpus, so that they do not depend on how documents fell into segments.

Fields are weighted as in Robertson, Zaragoza & Taylor 2004, "Simple BM25 Extension to Multiple Weighted Fields": term
frequencies and lengths are weighted sums over the fields. Weights are relative, their mean is taken as 1, so that equal
ones give `match_bm25`'s scores.

An identifier in the query can count as if it stood there several times, which is BM25's query term frequency (Robertson
& Walker 1994, "Some Simple Effective Approximations to the 2-Poisson Model"): who asks for `db.t3.micro` does not want
the chunk that says `db`, `t3` and `micro` most often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.store.connection import literals
from tasks.store.filters import Matching
from tasks.store.reader import ChunkRef, Reader
from tasks.store.terms import identifier_terms, query_terms

K1 = 1.2
B = 0.75

# Fetched beyond the limit, so that which of several equal scores make it does not depend on where they lie.
TIES = 32


class FieldWeights(NamedTuple):
    """How much a term counts in each field."""

    title: float = 1.0
    headings: float = 1.0
    text: float = 1.0


EQUAL = FieldWeights()


def bm25(
    reader: Reader,
    query: str,
    limit: int,
    *,
    weights: FieldWeights = EQUAL,
    identifier_weight: float = 1.0,
    matching: Matching | None = None,
) -> list[tuple[ChunkRef, float]]:
    """The `limit` best live chunks for `query`, best first; only `matching` ones, where given.

    Statistics are those of all live chunks either way. Equal scores are ordered by chunk_id.
    """
    terms = _weighted_terms(reader, query, identifier_weight)
    return _scored(reader, terms, limit, weights, matching)


def bm25_of_terms(
    reader: Reader,
    query: str,
    refs: Sequence[ChunkRef],
    *,
    weights: FieldWeights = EQUAL,
    identifier_weight: float = 1.0,
) -> dict[ChunkRef, dict[str, float]]:
    """What each term of `query`, stemmed, adds to the score of each of `refs` that holds it."""
    terms, matching = _weighted_terms(reader, query, identifier_weight), Matching.of_chunks(refs)
    parts: dict[ChunkRef, dict[str, float]] = {}
    for segment, row, term, score in _each(reader, terms, weights, matching, "docid, term, {score}"):
        parts.setdefault(ChunkRef(segment, row), {})[term] = score
    return parts


def _weighted_terms(reader: Reader, query: str, identifier_weight: float) -> dict[str, float]:
    """The query's terms, and how often each counts."""
    cursor, analyzer = reader.cursor(), reader.generation.analyzer
    terms = dict.fromkeys(query_terms(cursor, query, analyzer), 1.0)
    if identifier_weight != 1.0:
        terms |= dict.fromkeys(identifier_terms(cursor, query, analyzer), identifier_weight)
    return terms


def _scored(
    reader: Reader, terms: Mapping[str, float], limit: int, weights: FieldWeights, matching: Matching | None
) -> list[tuple[ChunkRef, float]]:
    best = f"GROUP BY docid ORDER BY score DESC LIMIT {limit + TIES}"
    rows = _each(reader, terms, weights, matching, "docid, sum({score}) AS score", best)
    return reader.best([(ChunkRef(segment, row), score) for segment, row, score in rows], limit, digits=9)


def _each(
    reader: Reader,
    terms: Mapping[str, float],
    weights: FieldWeights,
    matching: Matching | None,
    columns: str,
    further: str = "",
) -> list[tuple[Any, ...]]:
    """Segment and `columns` of the live postings of `terms`, a segment's at a time; {score} is a posting's part."""
    cursor = reader.cursor()
    segments = reader.generation.segments
    live = [i for i, segment in enumerate(segments) if segment.live_chunks and (matching is None or matching.count(i))]
    if not terms or not live:
        return []
    if matching is not None:
        cursor.register("matching", matching.rows)
    tf, length, average = _statistics(reader, weights)
    often = "".join(f" WHEN {literals([term])} THEN {_double(n)}" for term, n in terms.items() if n != 1.0)
    factor = f"CASE term{often} ELSE 1 END" if often else "1"
    chosen = " UNION ALL ".join(
        f"SELECT {i} AS segment, termid, term, df{_dead_df(reader, i)} AS df "
        f"FROM {reader.alias(i)}.terms t WHERE term IN ({literals(terms)})"
        for i in range(len(segments))
    )
    score = f"weight * {tf} / ({tf} + {_double(K1 * (1 - B))} + {_double(K1 * B / average)} * {length})"
    scored = " UNION ALL ".join(
        f"""(SELECT {i} AS segment, {columns.format(score=score)}
        FROM {reader.alias(i)}.postings p JOIN (SELECT termid, term, weight FROM idf WHERE segment = {i}) USING (termid)
        {_kept(reader, i, matching)}
        {further})"""
        for i in live
    )
    return cursor.execute(
        f"""
        WITH idf AS MATERIALIZED (
            SELECT segment, termid, term,
                log10(({reader.generation.chunks} - total + 0.5) / (total + 0.5) + 1)
                    * {_double(K1 + 1)} * {factor} AS weight
            FROM (SELECT segment, termid, term, sum(df) OVER (PARTITION BY term) AS total FROM ({chosen}))
        )
        {scored}
        """
    ).fetchall()


def _statistics(reader: Reader, weights: FieldWeights) -> tuple[str, str, float]:
    """SQL for a posting's weighted term frequency and length, and the average of that length."""
    segments = reader.generation.segments
    total = sum(s.live_length for s in segments)
    if len(set(weights)) == 1:
        return "p.tf", "p.len", max(total / reader.generation.chunks, 1e-9)
    mean = sum(weights) / len(weights)
    title, headings, text = (weight / mean for weight in weights)
    lengths = [sum(s.live_title_length for s in segments), sum(s.live_headings_length for s in segments)]
    average = title * lengths[0] + headings * lengths[1] + text * (total - sum(lengths))

    def weighted(name: str) -> str:
        terms = zip((text, title - text, headings - text), ("", "title_", "headings_"), strict=True)
        return f"({' + '.join(f'{_double(weight)} * p.{field}{name}' for weight, field in terms)})"

    return weighted("tf"), weighted("len"), max(average / reader.generation.chunks, 1e-9)


def _dead_df(reader: Reader, segment: int) -> str:
    """SQL that takes the dead postings off a term's document frequency."""
    if not reader.generation.segments[segment].dead_chunks:
        return ""
    return (
        f" - (SELECT count(*) FROM {reader.alias(segment)}.postings p "
        f"SEMI JOIN (SELECT row FROM {reader.dead_rows} WHERE segment = {segment}) d ON d.row = p.docid "
        "WHERE p.termid = t.termid)"
    )


def _double(value: float) -> str:
    """SQL for a DOUBLE: DuckDB takes 0.3 for a DECIMAL, whose products overflow."""
    return f"{value:.17e}"


def _kept(reader: Reader, segment: int, matching: Matching | None) -> str:
    """SQL joins that leave out dead chunks and those that a filter leaves out."""
    if matching is not None:  # live ones only
        return f"SEMI JOIN (SELECT row FROM matching WHERE segment = {segment}) m ON m.row = p.docid"
    if reader.generation.segments[segment].dead_chunks:
        return f"ANTI JOIN (SELECT row FROM {reader.dead_rows} WHERE segment = {segment}) d ON d.row = p.docid"
    return ""

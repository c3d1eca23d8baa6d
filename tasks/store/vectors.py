"""Nearest chunks by cosine: an HNSW index scan in the segments that have one, an exact scan in the others.

An HNSW scan cannot filter. It fetches as many more as are dead or, at the filter's selectivity, will not match; where
too few of them survive, or where looking at the survivors alone is cheaper, the exact scan answers. So a query gives
`limit` chunks whenever so many exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from schemas.errors import ModelMismatch
from tasks.store.filters import Matching
from tasks.store.reader import ChunkRef, Reader

# Fetched beyond the limit, so that which of several equal cosines make it does not depend on where they lie.
TIES = 32

# What an HNSW scan pays for a vector that it returns, in vectors that an exact scan compares in that time, 384
# dimensions (`python -m tests.benchmarks.store`).
HNSW_COST = 20

Ranked = list[tuple[ChunkRef, float]]


def nearest(reader: Reader, vector: np.ndarray, limit: int, *, matching: Matching | None = None) -> Ranked:
    """The `limit` live chunks nearest to `vector`, float32[dim], with their cosine, best first; of those `matching`.

    Equal cosines are ordered by chunk_id. Raises ModelMismatch where the dimension is not the store's.
    """
    point = parameter(reader, vector)
    segments = reader.generation.segments
    live = [i for i, segment in enumerate(segments) if segment.live_chunks and (matching is None or matching.count(i))]
    if not live:
        return []
    exact = {i for i in live if not _approximate(reader, i, limit, matching)}
    found = _scan(reader, point, limit, live, exact, matching)
    kept = Counter(ref.segment for ref, _ in found)
    short = {i for i in set(live) - exact if kept[i] < min(limit, _available(reader, i, matching))}
    if short:
        found = _scan(reader, point, limit, live, exact | short, matching)
    return reader.best(found, limit, digits=7)


def cosines(reader: Reader, vector: np.ndarray, refs: Sequence[ChunkRef]) -> dict[ChunkRef, float]:
    """The cosine of `vector`, float32[dim], to each of `refs`."""
    similarity = _call("array_cosine_similarity", reader)
    return {ref: cosine for ref, (cosine,) in reader.fetch(refs, similarity, parameter(reader, vector)).items()}


def similarities(reader: Reader, refs: Sequence[ChunkRef]) -> np.ndarray:
    """float32[n, n], the cosine of each of `refs` to each other; 0 to and from a chunk whose vector is all zeros."""
    vectors = reader.embeddings(refs)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(units @ units.T)


def _scan(
    reader: Reader,
    point: dict[str, list[float]],
    limit: int,
    live: Sequence[int],
    exact: set[int],
    matching: Matching | None,
) -> Ranked:
    """The nearest of each segment."""
    cursor = reader.cursor()
    if matching is not None:
        cursor.register("matching", matching.rows)
    parts = (
        exact_scan(reader, i, limit, matching) if i in exact else index_scan(reader, i, limit, matching) for i in live
    )
    rows = cursor.execute(" UNION ALL ".join(parts), point).fetchall()
    return [(ChunkRef(segment, row), 1 - distance) for segment, row, distance in rows]


def index_scan(reader: Reader, segment: int, limit: int, matching: Matching | None) -> str:
    """SQL for a segment's nearest by its HNSW index to `$vector`: segment, row, distance."""
    return f"""(
        SELECT {segment} AS segment, row, distance FROM (
            SELECT docid AS row, {_call("array_cosine_distance", reader)} AS distance
            FROM {reader.alias(segment)}.chunks ORDER BY distance LIMIT {_fetched(reader, segment, limit, matching)}
        ) {_kept(reader, segment, matching)} ORDER BY distance LIMIT {limit + TIES})"""


def exact_scan(reader: Reader, segment: int, limit: int, matching: Matching | None) -> str:
    """SQL for a segment's nearest by comparing each with `$vector`: segment, row, distance."""
    # 1 - similarity: an ORDER BY of array_cosine_distance would be answered from an index
    return f"""(
        SELECT {segment} AS segment, row, 1 - {_call("array_cosine_similarity", reader)} AS distance
        FROM (SELECT docid AS row, embedding FROM {reader.alias(segment)}.chunks) {_kept(reader, segment, matching)}
        ORDER BY distance LIMIT {limit + TIES})"""


def _kept(reader: Reader, segment: int, matching: Matching | None) -> str:
    if matching is not None:  # live ones only
        return f"SEMI JOIN (SELECT row FROM matching WHERE segment = {segment}) m USING (row)"
    if reader.generation.segments[segment].dead_chunks:
        return f"ANTI JOIN (SELECT row FROM {reader.dead_rows} WHERE segment = {segment}) d USING (row)"
    return ""


def _approximate(reader: Reader, segment: int, limit: int, matching: Matching | None) -> bool:
    """Whether the HNSW index is there and cheaper than comparing with each chunk that may answer."""
    if not reader.generation.segments[segment].hnsw:
        return False
    return _fetched(reader, segment, limit, matching) * HNSW_COST < _available(reader, segment, matching)


def _fetched(reader: Reader, segment: int, limit: int, matching: Matching | None) -> int:
    """How many an index scan has to fetch so that `limit` of them are likely to be kept."""
    if matching is None:
        return limit + TIES + reader.generation.segments[segment].dead_chunks
    chunks = reader.generation.segments[segment].chunks
    return min(chunks, int(1.5 * (limit + TIES) * chunks / matching.count(segment)))


def _available(reader: Reader, segment: int, matching: Matching | None) -> int:
    return reader.generation.segments[segment].live_chunks if matching is None else matching.count(segment)


def _call(function: str, reader: Reader) -> str:
    return f"{function}(embedding, $vector::FLOAT[{reader.generation.dim}])"


def parameter(reader: Reader, vector: np.ndarray) -> dict[str, list[float]]:
    """The query vector for `$vector` in SQL."""
    if vector.shape != (reader.generation.dim,):
        dim = reader.generation.dim
        raise ModelMismatch(f"the query vector has shape {vector.shape}, the store's vectors have {dim} dimensions")
    return {"vector": vector.tolist()}

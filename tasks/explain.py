"""Say why a document is not among the hits of a query: stage by stage, from the store to the last order."""

from __future__ import annotations

import difflib

from schemas.records import Filter, Whereabouts
from schemas.settings import Settings
from tasks.rerank import FUSION
from tasks.search import Ranking, Scored, lexical_weights, rank
from tasks.store.filters import matching_chunks
from tasks.store.lexical import bm25_of_terms
from tasks.store.reader import ChunkRef, Reader

# How deep the first stages are looked through for the document.
DEPTH = 1_000


def why(
    path: str,
    query: str,
    settings: Settings,
    *,
    k: int = 10,
    wanted: Filter | None = None,
    generation: int | None = None,
) -> Whereabouts:
    """Why no chunk of the document at `path`, or whose path ends so, is among the `k` hits, or where it is.

    Errors as of tasks.search.search.
    """
    older = None if generation is None else Reader.open(settings.store, generation)
    used = rank(query, settings, k=k, wanted=wanted, reader=older)
    reader = used.reader
    rows = [row for row in reader.documents().to_pylist() if _is(row["path"], path)]
    live = [row for row in rows if row["error_kind"] is None]
    if not rows:
        return Whereabouts(path, f"no such document in the store{_like(reader, path)}", {}, {})
    if not live:
        return Whereabouts(rows[0]["path"], f"it is in quarantine: {rows[0]['error_kind']}, {rows[0]['error']}", {}, {})
    row = live[0]
    own = {ChunkRef(row["segment"], row["first_chunk"] + i) for i in range(row["chunk_count"])}
    if not own:
        return Whereabouts(row["path"], "it has no chunks: no text was found in it", {}, {})
    if wanted is not None:
        passing = matching_chunks(reader, wanted).rows
        if own.isdisjoint(map(ChunkRef, passing["segment"].to_pylist(), passing["row"].to_pylist())):
            return Whereabouts(row["path"], "the filter leaves it out", {}, {})

    # the first stages alone: a reranker would be paid for twice
    deepest = settings.model_copy(update={"candidates": DEPTH, "reranker": FUSION})
    deep = rank(query, deepest, k=k, wanted=wanted, reader=reader)
    ranks = {stage: _place(deep.stages[stage], own) for stage in ("bm25", "vectors")}
    ranks |= {stage: _place(used.stages[stage], own) for stage in ("fusion", "rerank")}
    terms = bm25_of_terms(reader, query, sorted(own), **lexical_weights(settings))
    best = max(terms, key=lambda ref: sum(terms[ref].values()), default=None)
    return Whereabouts(row["path"], _verdict(ranks, used, settings, k), ranks, terms[best] if best is not None else {})


def _verdict(ranks: dict[str, int | None], used: Ranking, settings: Settings, k: int) -> str:
    first = {stage: ranks[stage] for stage in ("bm25", "vectors")}
    said = ", ".join(f"{place or f'beyond {DEPTH:,}'} by {stage}" for stage, place in first.items())
    if ranks["rerank"] is not None and ranks["rerank"] <= k:
        return f"it is hit {ranks['rerank']}"
    if all(place is None or place > settings.candidates for place in first.values()):
        return f"no candidate: {said}; the first {settings.candidates} of each are (setting candidates)"
    if ranks["rerank"] is None:
        why_so_few = used.fallback or "setting pool, or @POOL of the reranker"
        return f"not in the pool: {said}, {ranks['fusion']} after fusion; the first {used.pool} are ({why_so_few})"
    reason = f" ({used.fallback})" if used.fallback else ""
    return f"below the {k} hits: {ranks['fusion']} after fusion, {ranks['rerank']} by {used.reranker}{reason}"


def _place(scored: Scored, own: set[ChunkRef]) -> int | None:
    return next((place for place, (ref, _) in enumerate(scored, start=1) if ref in own), None)


def _is(path: str, asked: str) -> bool:
    return path == asked or path.endswith(f"/{asked.lstrip('/')}")


def _like(reader: Reader, path: str) -> str:
    """A name that was meant perhaps."""
    name = path.rpartition("/")[2]
    names = {found.rpartition("/")[2] for found in reader.documents()["path"].to_pylist()}
    close = difflib.get_close_matches(name, names, n=1)
    return f"; is it {close[0]}?" if close else ""

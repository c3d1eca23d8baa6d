"""Search a store: BM25 ∥ vectors → fuse → rerank a pool → hits.

The plain function that the command line, the Prefect task and the flow share. Imports neither Prefect nor torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from schemas.errors import ModelMismatch
from schemas.records import Filter, Hit, SearchResult, StageScore
from schemas.settings import Settings
from tasks.fuse import reciprocal_rank_fusion, weighted_scores
from tasks.models import Encoder, load_encoder
from tasks.passages import passages
from tasks.rerank import load_cascade, rerank
from tasks.store.filters import Matching, matching_chunks
from tasks.store.lexical import FieldWeights, bm25, bm25_of_terms
from tasks.store.reader import ChunkRef, Reader, newest
from tasks.store.terms import identifiers
from tasks.store.vectors import cosines, nearest, similarities

Scored = list[tuple[ChunkRef, float]]


class LexicalWeights(TypedDict):
    """Keyword arguments of tasks.store.lexical."""

    weights: FieldWeights
    identifier_weight: float


@dataclass(frozen=True)
class Ranking:
    """The candidates of one query as each stage ordered them."""

    reader: Reader
    stages: dict[str, Scored]  # bm25, vectors, fusion and rerank, each best first; `rerank 1`, … of a cascade
    reranker: str  # what gave the final order: a reranker's name, `fusion`, or a cascade of them
    fallback: str | None  # why a wanted reranker did not run, or not over the whole pool
    pool: int  # candidates that the reranker saw
    timings_ms: dict[str, float]


def search(
    query: str,
    settings: Settings,
    *,
    k: int = 10,
    wanted: Filter | None = None,
    generation: int | None = None,
    explain: bool = False,
) -> SearchResult:
    """The `k` best chunks for `query`, each with its rank and score at every stage; to `explain`, its terms too.

    Only documents that `wanted` describes may answer. The newest generation is searched, or the one that is named.

    Raises StoreNotFound, NoSuchGeneration, StoreFormat, CorruptStore, ModelMismatch, ModelNotFound.
    """
    older = None if generation is None else Reader.open(settings.store, generation)
    return result_of(query, rank(query, settings, k=k, wanted=wanted, reader=older), settings, k=k, explain=explain)


def result_of(query: str, ranking: Ranking, settings: Settings, *, k: int, explain: bool) -> SearchResult:
    """The first `k` of a ranking, with what a person reads of them."""
    best = ranking.stages["rerank"][:k]
    with _timed(ranking.timings_ms, "read"):
        refs = [ref for ref, _ in best]
        rows = ranking.reader.lookup(refs)
        terms = bm25_of_terms(ranking.reader, query, refs, **lexical_weights(settings)) if explain else {}
    stages = stage_scores(ranking.stages)
    hits = tuple(
        Hit(rank=place, score=score, stages=stages[ref], terms=terms.get(ref, {}), **rows[ref])
        for place, (ref, score) in enumerate(best, start=1)
    )
    return SearchResult(
        query=query,
        hits=hits,
        generation=ranking.reader.generation.number,
        reranker=ranking.reranker,
        fallback=ranking.fallback,
        pool=ranking.pool,
        timings_ms=ranking.timings_ms,
    )


def rank(
    query: str,
    settings: Settings,
    *,
    k: int = 10,
    wanted: Filter | None = None,
    reader: Reader | None = None,
    vector: np.ndarray | None = None,
) -> Ranking:
    """Every stage's order of the candidates, of the newest generation or that of `reader`; the rest as for `search`.

    `vector` is the query's, float32[dim], where many were embedded together.
    """
    timings: dict[str, float] = {}
    with _timed(timings, "open"):
        reader = reader or newest(settings.store)
        encoder = load_encoder(settings, reader.generation.embedder)
        _check_model(reader, encoder)
        cascade = load_cascade(settings, k)
    started = time.perf_counter()  # a deadline does not count the loading of models
    with _timed(timings, "retrieve"), ThreadPoolExecutor(1) as pool:
        weights = lexical_weights(settings)
        limit = max(settings.candidates, k)
        matching = None if wanted is None else matching_chunks(reader, wanted)
        lexical = pool.submit(bm25, reader, query, limit, matching=matching, **weights)
        if vector is None:
            vector = encoder.encode([query])[0]
        semantic = nearest(reader, vector, limit, matching=matching)
        stages = {"bm25": lexical.result(), "vectors": semantic}
    with _timed(timings, "fuse"):
        rankings = [[ref for ref, _ in scored] for scored in stages.values()]
        stages["fusion"] = reciprocal_rank_fusion(rankings, settings.rrf_k)
        refs = [ref for ref, _ in stages["fusion"][: max(cascade[0].pool, k)]]
    with _timed(timings, "rerank"):

        def read(places: Sequence[int]) -> list[str]:
            return passages(reader, [refs[place] for place in places], settings)

        def fused() -> np.ndarray:
            scores = complete_scores(reader, query, vector, refs, settings)
            return weighted_scores(*scores, vector_weight(query, settings))

        def alike(places: Sequence[int]) -> np.ndarray:
            return similarities(reader, [refs[place] for place in places])

        least = min(k, len(refs))
        reranked = rerank(
            cascade, query, settings, count=len(refs), read=read, fused=fused, alike=alike, least=least, started=started
        )
        for stage, order in reranked.orders.items():
            stages[stage] = [(refs[place], score) for place, score in order]
    return Ranking(
        reader=reader,
        stages=stages,
        reranker=reranked.reranker,
        fallback=reranked.fallback,
        pool=len(stages["rerank"]),  # under a deadline, the first of the pool may be all that was scored
        timings_ms=timings,
    )


def lexical_weights(settings: Settings) -> LexicalWeights:
    """The settings' weights for BM25."""
    fields = FieldWeights(settings.title_weight, settings.headings_weight, settings.text_weight)
    return {"weights": fields, "identifier_weight": settings.identifier_weight}


def complete_scores(
    reader: Reader, query: str, vector: np.ndarray, refs: Sequence[ChunkRef], settings: Settings
) -> tuple[list[float], list[float]]:
    """The cosine to `vector`, float32[dim], and the BM25 of each of `refs`, whichever stage found it."""
    near = cosines(reader, vector, refs)
    known = dict(bm25(reader, query, len(refs), matching=Matching.of_chunks(refs), **lexical_weights(settings)))
    return [near[ref] for ref in refs], [known.get(ref, 0.0) for ref in refs]


def vector_weight(query: str, settings: Settings) -> float:
    """The settings' weight; at most that of BM25 where the query names an identifier, whose meaning no vector has."""
    return min(settings.vector_weight, 0.5) if identifiers(query) else settings.vector_weight


def _check_model(reader: Reader, encoder: Encoder) -> None:
    if reader.generation.embedder != encoder.fingerprint:
        raise ModelMismatch(
            f"{reader.store} holds vectors of {reader.generation.embedder}, the settings ask for "
            f"{encoder.fingerprint}; query with the embedder that the store was built with"
        )


def stage_scores(ranked: dict[str, Scored]) -> dict[ChunkRef, dict[str, StageScore]]:
    """Rank and score of every candidate at each stage that has it."""
    stages: dict[ChunkRef, dict[str, StageScore]] = {}
    for stage, scored in ranked.items():
        for rank, (ref, score) in enumerate(scored, start=1):
            stages.setdefault(ref, {})[stage] = StageScore(rank, score)
    return stages


def stage_columns(stages: Mapping[str, StageScore]) -> dict[str, float]:
    """A row's columns `<stage>_rank` and `<stage>_score`, of a cascade `rerank_1_rank` and so on."""
    return {
        f"{stage.replace(' ', '_')}_{name}": value
        for stage, found in stages.items()
        for name, value in vars(found).items()
    }


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1000

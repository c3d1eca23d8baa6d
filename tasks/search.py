"""Search a store: BM25 ∥ vectors → fuse → rerank a pool → hits.

The plain function that the command line, the Prefect task and the flow share. Imports neither Prefect nor torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ModelMismatch
from schemas.records import Hit, SearchResult, StageScore
from schemas.settings import Settings
from tasks.fuse import reciprocal_rank_fusion
from tasks.models import Encoder, load_encoder
from tasks.rerank import fusion_scores, load_reranker, passage
from tasks.store import generation as generations
from tasks.store.lexical import bm25
from tasks.store.reader import ChunkRef, Reader
from tasks.store.vectors import cosines, nearest

Scored = list[tuple[ChunkRef, float]]

_readers: dict[Path, Reader] = {}
_readers_lock = threading.Lock()


def open_reader(store: Path) -> Reader:
    """The process's reader of `store`, moved to the newest generation.

    An older reader stays open for whoever still uses it; its cursors keep its files.
    """
    with _readers_lock:
        number = generations.current_number(store)
        reader = _readers.get(store)
        if reader is None or reader.generation.number != number:
            reader = _readers[store] = Reader.open(store, number)
        return reader


def search(query: str, settings: Settings, *, k: int = 10) -> SearchResult:
    """The `k` best chunks for `query`, each with its rank and score at every stage.

    Raises StoreNotFound, StoreFormat, CorruptStore, ModelMismatch, ModelNotFound.
    """
    timings: dict[str, float] = {}
    with _timed(timings, "open"):
        reader = open_reader(settings.store)
        encoder = load_encoder(settings)
        _check_model(reader, encoder)
    with _timed(timings, "retrieve"), ThreadPoolExecutor(1) as pool:
        lexical = pool.submit(bm25, reader, query, settings.candidates)
        vector = encoder.encode([query])[0]
        semantic = nearest(reader, vector, settings.candidates)
        ranked = {"bm25": lexical.result(), "vectors": semantic}
    with _timed(timings, "fuse"):
        rankings = [[ref for ref, _ in scored] for scored in ranked.values()]
        ranked["fusion"] = reciprocal_rank_fusion(rankings, settings.rrf_k)
        refs = [ref for ref, _ in ranked["fusion"][: max(settings.pool, k)]]
        rows = reader.lookup(refs)
    with _timed(timings, "rerank"):
        reranker, fallback = load_reranker(settings)
        if reranker is None:
            known = dict(bm25(reader, query, None, among=refs))
            near = cosines(reader, vector, refs)
            scores = fusion_scores([near[ref] for ref in refs], [known.get(ref, 0.0) for ref in refs])
        else:
            texts = [passage(rows[ref]["title"], rows[ref]["headings"], rows[ref]["text"]) for ref in refs]
            scores = reranker.score(query, texts)
        ranked["rerank"] = sorted(zip(refs, scores.tolist(), strict=True), key=lambda item: -item[1])
    stages = _stages(ranked)
    hits = tuple(
        Hit(rank=rank, score=score, stages=stages[ref], **rows[ref])
        for rank, (ref, score) in enumerate(ranked["rerank"][:k], start=1)
    )
    return SearchResult(
        query=query,
        hits=hits,
        generation=reader.generation.number,
        reranker="fusion" if reranker is None else reranker.name,
        fallback=fallback,
        pool=len(refs),
        timings_ms=timings,
    )


def _check_model(reader: Reader, encoder: Encoder) -> None:
    if reader.generation.embedder != encoder.fingerprint:
        raise ModelMismatch(
            f"{reader.store} holds vectors of {reader.generation.embedder}, the settings ask for "
            f"{encoder.fingerprint}; query with the embedder that the store was built with"
        )


def _stages(ranked: dict[str, Scored]) -> dict[ChunkRef, dict[str, StageScore]]:
    stages: dict[ChunkRef, dict[str, StageScore]] = {}
    for stage, scored in ranked.items():
        for rank, (ref, score) in enumerate(scored, start=1):
            stages.setdefault(ref, {})[stage] = StageScore(rank, score)
    return stages


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1000

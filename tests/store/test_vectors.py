"""Vector search against an exact scan in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelMismatch
from tasks.store.reader import ChunkRef, Reader
from tasks.store.vectors import _literal, _nearest_in, cosines, nearest
from tests.store.parts import DIM, Corpus, vectors_of


def exact(texts: list[str], query: np.ndarray, k: int) -> list[str]:
    scores = vectors_of(texts) @ query
    return [texts[i] for i in np.argsort(-scores, kind="stable")[:k]]


def found(store: Path, query: np.ndarray, k: int) -> list[str]:
    with Reader.open(store) as reader:
        scored = nearest(reader, query, k)
        rows = reader.lookup([ref for ref, _ in scored])
        return [rows[ref]["text"] for ref, _ in scored]


@pytest.mark.parametrize("hnsw_min_rows", [pytest.param(1, id="hnsw"), pytest.param(10**9, id="exact-scan")])
def test_nearest_equals_exact_scan_over_segments_and_after_deletes(tmp_path: Path, hnsw_min_rows: int) -> None:
    corpus = Corpus(tmp_path, hnsw_min_rows)
    texts = [f"text {i}" for i in range(600)]
    for part in range(3):
        corpus.publish({f"d{i}": [texts[i]] for i in range(part * 200, part * 200 + 200)})
    corpus.publish({}, delete=[f"d{i}" for i in range(0, 600, 7)])
    live = [text for i, text in enumerate(texts) if i % 7]
    for query in vectors_of([f"query {i}" for i in range(20)]):
        assert found(tmp_path, query, 10) == exact(live, query, 10)


def test_large_segments_are_searched_through_their_hnsw_index(tmp_path: Path) -> None:
    Corpus(tmp_path, hnsw_min_rows=100).publish({f"d{i}": [f"text {i}"] for i in range(200)})
    with Reader.open(tmp_path) as reader:
        assert reader.generation.segments[0].hnsw
        sql = _nearest_in(reader, 0, _literal(reader, vectors_of(["q"])[0]), 10)
        assert "HNSW_INDEX_SCAN" in reader.cursor().execute(f"EXPLAIN {sql}").fetchall()[0][1]


def test_cosines_of_given_chunks_are_their_dot_products(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(10)]
    Corpus(tmp_path).publish({"d": texts})
    query = vectors_of(["q"])[0]
    with Reader.open(tmp_path) as reader:
        refs = [ChunkRef(0, i) for i in range(10)]
        assert list(cosines(reader, query, refs).values()) == pytest.approx(
            (vectors_of(texts) @ query).tolist(), abs=1e-6
        )


def test_query_vector_of_another_dimension_is_an_error(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"d": ["x"]})
    with Reader.open(tmp_path) as reader, pytest.raises(ModelMismatch, match=f"{DIM} dimensions"):
        nearest(reader, np.zeros(3, dtype=np.float32), 1)

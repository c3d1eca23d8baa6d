"""Vector search against an exact scan in NumPy, with and without filters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelMismatch
from schemas.records import Filter
from tasks.store.filters import matching_chunks
from tasks.store.lexical import bm25
from tasks.store.reader import ChunkRef, Reader
from tasks.store.vectors import cosines, index_scan, nearest, parameter, similarities
from tests.benchmarks import synthetic
from tests.store.parts import DIM, Corpus, vectors_of

METADATA = {
    f"d{i}": {
        "source": f"/s{i % 2}",
        "path": f"/s{i % 2}/guide{i % 5}/{i}.{'md' if i % 3 else 'html'}",
        "file_type": "md" if i % 3 else "html",
        "mtime_ns": i * 86_400 * 10**9,
        "metadata": json.dumps({"author/name": f"a{i % 50}"}),
    }
    for i in range(600)
}


def exact(texts: list[str], query: np.ndarray, k: int) -> list[str]:
    scores = vectors_of(texts) @ query
    return [texts[i] for i in np.argsort(-scores, kind="stable")[:k]]


def found(reader: Reader, query: np.ndarray, k: int, wanted: Filter | None = None) -> list[str]:
    matching = None if wanted is None else matching_chunks(reader, wanted)
    scored = nearest(reader, query, k, matching=matching)
    rows = reader.lookup([ref for ref, _ in scored])
    return [rows[ref]["text"] for ref, _ in scored]


def test_similarities_are_the_cosines_of_each_to_each(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 10**9)
    texts = [f"text {i}" for i in range(30)]
    for part in range(3):
        corpus.publish({f"d{i}": [texts[i]] for i in range(part * 10, part * 10 + 10)})
    with Reader.open(tmp_path) as reader:
        refs = [ref for ref, _ in nearest(reader, vectors_of(["query"])[0], 12)]
        rows = reader.lookup(refs)
        vectors = vectors_of([rows[ref]["text"] for ref in refs])
        between = similarities(reader, refs)
        np.testing.assert_allclose(between, vectors @ vectors.T, atol=1e-6)
        for ref, vector, row in zip(refs, vectors, between, strict=True):
            near = cosines(reader, vector, refs)
            assert near[ref] == pytest.approx(1.0)
            np.testing.assert_allclose(row, [near[other] for other in refs], atol=1e-6)


@pytest.mark.parametrize("hnsw_min_rows", [pytest.param(1, id="hnsw"), pytest.param(10**9, id="exact-scan")])
def test_nearest_equals_exact_scan_over_segments_and_after_deletes(
    tmp_path: Path, hnsw_min_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.store.vectors.HNSW_COST", 0)  # take the index however small
    corpus = Corpus(tmp_path, hnsw_min_rows)
    texts = [f"text {i}" for i in range(600)]
    for part in range(3):
        corpus.publish({f"d{i}": [texts[i]] for i in range(part * 200, part * 200 + 200)})
    corpus.publish({}, delete=[f"d{i}" for i in range(0, 600, 7)])
    live = [text for i, text in enumerate(texts) if i % 7]
    with Reader.open(tmp_path) as reader:
        for query in vectors_of([f"query {i}" for i in range(20)]):
            assert found(reader, query, 10) == exact(live, query, 10)


@pytest.mark.parametrize("hnsw_min_rows", [pytest.param(1, id="hnsw"), pytest.param(10**9, id="exact-scan")])
@pytest.mark.parametrize(
    ("wanted", "keep"),
    [
        pytest.param(Filter(sources=("/s1",)), lambda i: i % 2 == 1, id="source"),
        pytest.param(Filter(paths=("guide3/*",)), lambda i: i % 5 == 3, id="relative-glob"),
        pytest.param(Filter(paths=("/s0/*", "*/guide1/*")), lambda i: i % 2 == 0 or i % 5 == 1, id="globs"),
        pytest.param(Filter(file_types=(".html",)), lambda i: i % 3 == 0, id="type"),
        pytest.param(
            Filter(modified_after=datetime(1970, 1, 11, tzinfo=UTC), modified_before=datetime(1970, 2, 1, tzinfo=UTC)),
            lambda i: 10 <= i < 31,
            id="dates",
        ),
        pytest.param(Filter(metadata={"author/name": "a7"}), lambda i: i % 50 == 7, id="metadata"),
        pytest.param(Filter(sources=("/s1",), file_types=("html",)), lambda i: i % 6 == 3, id="both"),
        pytest.param(Filter(sources=("/nowhere",)), lambda i: False, id="none"),
    ],
)  # fmt: skip
def test_filtered_query_gives_the_best_of_what_matches(
    tmp_path: Path, hnsw_min_rows: int, wanted: Filter, keep: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.store.vectors.HNSW_COST", 0)
    corpus = Corpus(tmp_path, hnsw_min_rows, metadata=METADATA)
    texts = [f"text {i}" for i in range(600)]
    corpus.publish({f"d{i}": [texts[i]] for i in range(400)})
    corpus.publish({f"d{i}": [texts[i]] for i in range(400, 600)})
    corpus.publish({}, delete=["d3", "d12", "d33"])
    live = [text for i, text in enumerate(texts) if keep(i) and i not in (3, 12, 33)]  # type: ignore[operator]
    with Reader.open(tmp_path) as reader:
        for query in vectors_of(["one", "two", "three"]):
            assert found(reader, query, 10, wanted) == (exact(live, query, 10) if live else [])
        scored = bm25(reader, "text", 1000, matching=matching_chunks(reader, wanted))
        assert len(scored) == len(live)


def test_index_that_finds_too_few_falls_back_to_the_exact_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.store.vectors.HNSW_COST", 0)
    monkeypatch.setattr("tasks.store.vectors._fetched", lambda *_: 3)
    corpus = Corpus(tmp_path, 1)
    corpus.publish({f"d{i}": [f"text {i}"] for i in range(300)})
    query = vectors_of(["q"])[0]
    with Reader.open(tmp_path) as reader:
        assert found(reader, query, 20) == exact([f"text {i}" for i in range(300)], query, 20)


def test_large_segments_are_searched_through_their_hnsw_index(tmp_path: Path) -> None:
    Corpus(tmp_path, hnsw_min_rows=100).publish({f"d{i}": [f"text {i}"] for i in range(200)})
    with Reader.open(tmp_path) as reader:
        assert reader.generation.segments[0].hnsw
        plan = reader.cursor().execute(
            f"EXPLAIN {index_scan(reader, 0, 10, None)}", parameter(reader, vectors_of(["q"])[0])
        )
        assert "HNSW_INDEX_SCAN" in plan.fetchall()[0][1]


@pytest.mark.slow
def test_recall_of_hnsw_at_50k_vectors_is_at_least_99_percent(tmp_path: Path) -> None:
    """Of 384-dimensional clustered vectors, against the exact scan; EXPLAIN shows that the index is used."""
    for _ in synthetic.grow(tmp_path, 50_000):
        pass
    generation = Corpus(tmp_path, hnsw_min_rows=50_000).compact(full=True)
    assert generation.segments[0].hnsw
    queries = synthetic.vectors(np.random.default_rng(99), 100)
    hits = 0
    with Reader.open(tmp_path) as reader:
        for query in queries:
            everything = {ref for ref, _ in nearest(reader, query, 10)}
            exactly = reader.cursor().execute(
                f"SELECT rowid FROM {reader.alias(0)}.chunks "
                f"ORDER BY array_cosine_similarity(embedding, $vector::FLOAT[{synthetic.DIM}]) DESC LIMIT 10",
                parameter(reader, query),
            )
            hits += sum(ChunkRef(0, row) in everything for (row,) in exactly.fetchall())
        plan = (
            reader.cursor()
            .execute(f"EXPLAIN {index_scan(reader, 0, 10, None)}", parameter(reader, query))
            .fetchall()[0][1]
        )
    assert "HNSW_INDEX_SCAN" in plan
    assert hits / (10 * len(queries)) >= 0.99


def test_cosines_of_given_chunks_are_their_dot_products(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(10)]
    Corpus(tmp_path).publish({"d": texts})
    query = vectors_of(["q"])[0]
    with Reader.open(tmp_path) as reader:
        refs = [ChunkRef(0, i) for i in range(10)]
        near = cosines(reader, query, refs)
        assert [near[ref] for ref in refs] == pytest.approx((vectors_of(texts) @ query).tolist(), abs=1e-6)


def test_query_vector_of_another_dimension_is_an_error(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"d": ["x"]})
    with Reader.open(tmp_path) as reader, pytest.raises(ModelMismatch, match=f"{DIM} dimensions"):
        nearest(reader, np.zeros(3, dtype=np.float32), 1)

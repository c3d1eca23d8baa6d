"""Fusion and the model-free reranker: properties that hold for any lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.fuse import reciprocal_rank_fusion
from tasks.rerank import fusion_scores, passage

rankings = st.lists(st.lists(st.integers(0, 30), unique=True), max_size=4)
scores = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), min_size=1, max_size=30)


@given(rankings)
def test_rrf_scores_are_the_sums_of_the_formula_best_first(lists: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(lists, k=60)
    expected = {
        key: sum(1 / (60 + ranking.index(key) + 1) for ranking in lists if key in ranking)
        for ranking in lists
        for key in ranking
    }
    assert dict(fused) == pytest.approx(expected)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


def test_rrf_prefers_what_both_lists_hold() -> None:
    assert reciprocal_rank_fusion([["a", "b"], ["c", "b"]])[0][0] == "b"


@given(scores, st.floats(0, 1))
def test_fusion_scores_lie_in_the_unit_interval_and_rise_with_both_inputs(
    pairs: list[tuple[float, float]], weight: float
) -> None:
    cosines, lexical = zip(*pairs, strict=True)
    fused = fusion_scores(cosines, lexical, weight)
    assert ((fused >= 0) & (fused <= 1 + 1e-12)).all()
    for i, (cosine, bm25) in enumerate(pairs):
        for j, (other_cosine, other_bm25) in enumerate(pairs):
            if cosine >= other_cosine and bm25 >= other_bm25:
                assert fused[i] >= fused[j]


def test_fusion_scores_of_an_empty_pool_are_empty() -> None:
    assert fusion_scores([], [], 0.6).shape == (0,)
    assert np.array_equal(fusion_scores([0.0], [0.0], 0.6), [0.0])


def test_passage_does_not_repeat_a_title_that_the_text_holds() -> None:
    assert passage("Guide", "Rotate", "text") == "Guide > Rotate\ntext"
    assert passage("Guide", "", "Guide to text") == "Guide to text"

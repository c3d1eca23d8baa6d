"""Fusion against its formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.fuse import Scale, by_deviation, by_maximum, by_range, reciprocal_rank_fusion, weighted_scores

rankings = st.lists(st.lists(st.integers(0, 30), unique=True), max_size=4)
pairs = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), min_size=1, max_size=30)
SCALES = [by_maximum, by_range, by_deviation]


@given(rankings, st.integers(1, 100))
def test_rrf_scores_are_the_sums_of_the_formula_best_first(lists: list[list[int]], k: int) -> None:
    fused = reciprocal_rank_fusion(lists, k)
    expected = {
        key: sum(1 / (k + ranking.index(key) + 1) for ranking in lists if key in ranking)
        for ranking in lists
        for key in ranking
    }
    assert dict(fused) == pytest.approx(expected)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)
    assert reciprocal_rank_fusion(lists, k, [1.0] * len(lists)) == fused


def test_rrf_prefers_what_both_rankings_have() -> None:
    assert reciprocal_rank_fusion([["a", "b"], ["c", "b"]])[0][0] == "b"


@given(pairs, st.floats(0, 1), st.sampled_from(SCALES))
def test_weighted_scores_rise_with_both_inputs(pairs: list[tuple[float, float]], weight: float, scale: Scale) -> None:
    cosines, lexical = zip(*pairs, strict=True)
    fused = weighted_scores(cosines, lexical, weight, scale)
    for i, (cosine, bm25) in enumerate(pairs):
        for j, (other_cosine, other_bm25) in enumerate(pairs):
            if cosine >= other_cosine and bm25 >= other_bm25:
                assert fused[i] >= fused[j] - 1e-9
    assert np.all(weighted_scores(cosines, lexical, weight) <= 1 + 1e-12)


def test_weighted_scores_are_the_formula() -> None:
    cosines, lexical = [0.8, 0.4, -0.2], [2.0, 8.0, 0.0]
    assert weighted_scores(cosines, lexical, 0.6) == pytest.approx([0.6 + 0.1, 0.3 + 0.4, 0.0])
    assert weighted_scores(cosines, lexical, 0.6, by_range) == pytest.approx([0.6 + 0.1, 0.36 + 0.4, 0.0])
    assert weighted_scores(cosines, lexical, 1.0, by_deviation).std() == pytest.approx(1)


@pytest.mark.parametrize("scale", SCALES)
def test_weighted_scores_of_an_empty_pool_or_of_equal_scores_are_finite(scale: Scale) -> None:
    assert weighted_scores([], [], 0.6, scale).shape == (0,)
    assert np.isfinite(weighted_scores([0.0, 0.0], [3.0, 3.0], 0.6, scale)).all()

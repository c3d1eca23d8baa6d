"""Fusion against its formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.fuse import convex_combination, reciprocal_rank_fusion, standardized_combination

lists = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-50, 50), max_size=8).map(
        lambda d: sorted(d.items(), key=lambda item: -item[1])
    ),
    min_size=2,
    max_size=2,
)


@given(lists, st.integers(1, 100))
def test_rrf_is_the_sum_of_reciprocal_ranks(lists: list[list[tuple[str, float]]], k: int) -> None:
    rankings = [[key for key, _ in scored] for scored in lists]
    fused = dict(reciprocal_rank_fusion(rankings, k))
    for key in {key for ranking in rankings for key in ranking}:
        expected = sum(1 / (k + ranking.index(key) + 1) for ranking in rankings if key in ranking)
        assert fused[key] == pytest.approx(expected)
    assert fused == pytest.approx(dict(reciprocal_rank_fusion(rankings, k, [1, 1])))


@given(lists)
def test_a_list_with_all_the_weight_keeps_its_order(lists: list[list[tuple[str, float]]]) -> None:
    first, second = lists
    scores = dict(first)
    for combine in (convex_combination, standardized_combination):
        fused = [key for key, _ in combine([first, second], [1.0, 0.0])]
        own = [scores[key] for key in fused if key in scores]
        assert own == pytest.approx(sorted(own, reverse=True), abs=1e-6)
        assert set(fused) == set(scores) | {key for key, _ in second}


def test_scales_do_not_matter() -> None:
    one = [("a", 3.0), ("b", 2.0), ("c", 1.0)]
    other = [("c", 0.9), ("b", 0.8), ("d", 0.1)]
    for combine in (convex_combination, standardized_combination):
        stretched = [(key, 100 * score + 7) for key, score in one]
        before, after = (combine([scored, other], [0.5, 0.5]) for scored in (one, stretched))
        assert [key for key, _ in before] == [key for key, _ in after]
    assert dict(convex_combination([one, other], [0.5, 0.5])) == pytest.approx(
        {"a": 0.5, "b": 0.25 + 0.5 * 0.7 / 0.8, "c": 0.5, "d": 0.0}
    )

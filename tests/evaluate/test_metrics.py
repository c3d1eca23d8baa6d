"""Metrics against a second implementation; intervals and tests against what they must say of known data."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import Score, compare, measure

names = [f"d{i}" for i in range(40)]
rankings = st.lists(st.sampled_from(names), unique=True, max_size=40)
gains = st.dictionaries(st.sampled_from(names), st.integers(-1, 3), min_size=1, max_size=15)


def plain(ranking: list[str], gains: dict[str, int]) -> dict[str, float]:
    """The metrics by their definitions."""
    gained = [max(gains.get(name, 0), 0) for name in ranking]
    relevant = sum(gain > 0 for gain in gains.values())

    def dcg(values: list[int]) -> float:
        return sum(value / math.log2(place + 2) for place, value in enumerate(values[:10]))

    found = {depth: sum(gain > 0 for gain in gained[:depth]) for depth in (5, 10, 50, 100)}
    return {
        "nDCG@10": dcg(gained) / dcg(sorted((max(g, 0) for g in gains.values()), reverse=True)),
        "MRR@10": next((1 / (place + 1) for place, gain in enumerate(gained[:10]) if gain), 0.0),
        "P@5": found[5] / 5,
        **{f"R@{depth}": found[depth] / relevant for depth in (10, 50, 100)},
    }


@settings(deadline=None)
@given(st.lists(st.tuples(rankings, gains.filter(lambda g: max(g.values()) > 0)), min_size=1, max_size=5))
def test_metrics_equal_their_definitions(cases: list[tuple[list[str], dict[str, int]]]) -> None:
    queries = {f"q{i}": "?" for i in range(len(cases))}
    judged = Judged(queries, {f"q{i}": gains for i, (_, gains) in enumerate(cases)})
    scores = measure(judged, {f"q{i}": ranking for i, (ranking, _) in enumerate(cases)})
    for i, (ranking, gains) in enumerate(cases):
        for name, value in plain(ranking, gains).items():
            assert scores[name].values[f"q{i}"] == pytest.approx(value), name


def test_query_without_an_answer_counts_zero() -> None:
    judged = Judged({"a": "?", "b": "?"}, {"a": {"x": 1}, "b": {"x": 1}})
    score = measure(judged, {"a": ["x"]})["nDCG@10"]
    assert (score.mean, score.values) == (0.5, {"a": 1.0, "b": 0.0})


def scored(values: list[float]) -> Score:
    return Score(sum(values) / len(values), 0, 1, {str(i): value for i, value in enumerate(values)})


def test_difference_is_told_from_chance() -> None:
    base = [i % 7 / 7 for i in range(100)]
    assert compare(scored(base), scored(base)).p == 1.0
    better = compare(scored(base), scored([value + 0.1 for value in base]))
    assert better.mean == pytest.approx(0.1)
    assert better.p < 0.001
    noise = compare(scored(base), scored([value + (0.1 if i % 2 else -0.1) for i, value in enumerate(base)]))
    assert noise.p > 0.5


def test_interval_holds_the_mean_and_shrinks_with_queries() -> None:
    few, many = (
        measure(
            Judged({str(i): "?" for i in range(n)}, {str(i): {"x": 1} for i in range(n)}),
            {str(i): ["x"] if i % 3 else ["y", "x"] for i in range(n)},
        )["MRR@10"]
        for n in (12, 300)
    )
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 2

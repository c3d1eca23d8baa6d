"""Merge what BM25 and vectors found into one order: by rank, or by scores brought to a common scale."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
Scale = Callable[[np.ndarray], np.ndarray]  # float64[n] → float64[n]


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Key]], k: int = 60, weights: Sequence[float] | None = None
) -> list[tuple[Key, float]]:
    """Each key's sum of weight / (k + rank) over the rankings that hold it (ranks from 1), best first.

    Cormack, Clarke & Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods"; there all weights are 1, as they are where none are given.
    Ties keep the order of first appearance.
    """
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def by_maximum(scores: np.ndarray) -> np.ndarray:
    """From 0, the least that BM25 and the cosine of a related text can be, to 1, the greatest of `scores`."""
    positive = np.maximum(scores, 0.0)
    return np.asarray(positive / (positive.max(initial=0.0) or 1.0))


def by_range(scores: np.ndarray) -> np.ndarray:
    """From 0, the least, to 1, the greatest of `scores`."""
    span = np.ptp(scores) if len(scores) else 0.0
    return np.asarray((scores - scores.min()) / span if span else np.ones_like(scores))


def by_deviation(scores: np.ndarray) -> np.ndarray:
    """Standard deviations from the mean of `scores`."""
    return np.asarray((scores - scores.mean()) / (scores.std() or 1.0) if len(scores) else scores)


def weighted_scores(
    cosines: Sequence[float], lexical: Sequence[float], vector_weight: float, scale: Scale = by_maximum
) -> np.ndarray:
    """Weighted mean of the cosine and BM25 of the same n candidates, each to `scale`; float64[n].

    The convex combination of Bruch, Gai & Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval", over
    complete scores: none is missing because a stage did not have the candidate. What it gains stands in the README.
    """
    near, matching = (scale(np.asarray(scores, dtype=np.float64)) for scores in (cosines, lexical))
    return np.asarray(vector_weight * near + (1 - vector_weight) * matching)

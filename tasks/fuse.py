"""Merge the ranked lists of BM25 and vectors into one: by rank, or by scores brought to a common scale."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
Scored = Sequence[tuple[Key, float]]


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
    return _best_first(scores)


def convex_combination(lists: Sequence[Scored[Key]], weights: Sequence[float]) -> list[tuple[Key, float]]:
    """Each key's weighted sum of its scores, each list's scaled from its least, 0, to its greatest, 1; best first.

    A key that a list lacks has 0 there. Bruch, Gai & Ingber 2023, "An Analysis of Fusion Functions for Hybrid
    Retrieval".
    """
    scores: dict[Key, float] = {}
    for scored, weight in zip(lists, weights, strict=True):
        values = np.array([score for _, score in scored])
        span = np.ptp(values) if len(values) else 0.0
        scaled = (values - values.min()) / span if span else np.ones_like(values)
        for (key, _), value in zip(scored, scaled, strict=True):
            scores[key] = scores.get(key, 0.0) + weight * float(value)
    return _best_first(scores)


def standardized_combination(lists: Sequence[Scored[Key]], weights: Sequence[float]) -> list[tuple[Key, float]]:
    """As convex_combination, with each list's scores as z-scores; a key that a list lacks has the list's least."""
    scores: dict[Key, float] = {key: 0.0 for scored in lists for key, _ in scored}
    for scored, weight in zip(lists, weights, strict=True):
        if not scored:
            continue
        values = np.array([score for _, score in scored])
        standard = (values - values.mean()) / (values.std() or 1.0)
        found = {key: float(value) for (key, _), value in zip(scored, standard, strict=True)}
        for key in scores:
            scores[key] += weight * found.get(key, float(standard.min()))
    return _best_first(scores)


def _best_first(scores: dict[Key, float]) -> list[tuple[Key, float]]:
    return sorted(scores.items(), key=lambda item: -item[1])

"""The final order of a pool, against the definition in loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.blend import NEIGHBOURS, Blend

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1, width=32)


def pool(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, fusion's scores and cosines, no two of them equal."""
    drawn = np.random.default_rng(seed)
    vectors = drawn.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return drawn.normal(size=count).astype(np.float32), drawn.random(count, dtype=np.float32), vectors @ vectors.T


@given(seed=SEEDS, count=st.integers(1, 12), weight=st.floats(0, 50, width=32), share=SHARES)
def test_a_score_is_drawn_towards_the_mean_of_the_nearest(seed: int, count: int, weight: float, share: float) -> None:
    logits, fusion, cosines = pool(seed, count)
    added = logits + weight * fusion
    expected = []
    for own in range(count):
        others = sorted((other for other in range(count) if other != own), key=lambda other: -cosines[own][other])
        near = [added[other] for other in others[:NEIGHBOURS]]
        expected.append((1 - share) * added[own] + share * np.mean(near) if near else added[own])
    found = Blend(weight, share).scores(logits, fusion, cosines)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@given(seed=SEEDS, count=st.integers(1, 12), share=SHARES)
def test_what_was_not_scored_draws_nothing(seed: int, count: int, share: float) -> None:
    logits, fusion, cosines = pool(seed, count)
    scored = count // 2 + 1
    blend = Blend(4.0, share)
    expected = blend.scores(logits[:scored], fusion[:scored], cosines[:scored, :scored])
    np.testing.assert_array_equal(blend.scores(logits[:scored], fusion, cosines), expected)


def test_by_default_a_reranker_alone_orders() -> None:
    logits, fusion, cosines = pool(1, 6)
    np.testing.assert_array_equal(Blend().scores(logits, fusion, cosines), logits)
    assert len(Blend(8.0, 0.4).scores(logits[:0], fusion, cosines)) == 0

"""The weights of what the final order takes beside a reranker's score."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.blend import Blend
from tasks.evaluate.judged import Judged
from tasks.training.weigh import BLENDS, Pool, best_blend, by_blend

SCORES = st.lists(st.tuples(st.floats(-5, 5, width=32), st.floats(0, 1, width=32)), min_size=2, max_size=12)


def pool(scores: list[tuple[float, float]]) -> Pool:
    chunks = [
        {"chunk_id": f"d{n}/0", "doc_id": f"d{n}", "uri": f"u{n}", "path": f"/p/{n}.md", "headings": ""}
        for n in range(len(scores))
    ]
    logits, fusion = (np.array(column, dtype=np.float32) for column in zip(*scores, strict=True))
    return Pool(chunks, logits, fusion, np.eye(len(scores), dtype=np.float32))


@given(SCORES)
def test_the_ends_are_the_reranker_and_almost_fusion(scores: list[tuple[float, float]]) -> None:
    made = pool(scores)
    places = [int(chunk["doc_id"][1:]) for chunk in made.ordered(Blend())]
    assert all(made.logits[a] >= made.logits[b] for a, b in pairwise(places))
    places = [int(chunk["doc_id"][1:]) for chunk in made.ordered(Blend(fusion=1e6))]
    assert all(made.fusion[a] >= made.fusion[b] - 1e-4 for a, b in pairwise(places))


@settings(max_examples=20, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=4))
def test_the_best_blend_is_no_worse_than_any(pools: list[list[tuple[float, float]]]) -> None:
    made = {str(n): pool(scores) for n, scores in enumerate(pools)}
    judged = Judged({query: query for query in made}, {query: {"d0": 1, "d1": 2} for query in made})
    found = by_blend(judged, made)
    assert set(found) == set(BLENDS)
    best = best_blend(judged, made)
    assert found[best] == max(found.values())

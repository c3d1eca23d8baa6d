"""What the final order takes beside a reranker's score: the weights that answer judged queries best.

The final order of the pool is that of tasks.blend, with two weights to learn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.settings import Settings
from tasks.blend import Blend
from tasks.evaluate.candidates import places
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import HEADLINE, values
from tasks.evaluate.runs import Namer
from tasks.models.speed import Reranker
from tasks.passages import passages
from tasks.search import rank
from tasks.store.vectors import similarities

# A logit's steps are about one; fusion's scores are between 0 and 1, those of a pool mostly above one half.
FUSION_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 48.0, 64.0)
NEIGHBOUR_WEIGHTS = (0.0, 0.2, 0.3, 0.4)
BLENDS = tuple(Blend(*weights) for weights in itertools.product(FUSION_WEIGHTS, NEIGHBOUR_WEIGHTS))


@dataclass(frozen=True)
class Pool:
    """What a reranker and fusion make of one query's candidates."""

    chunks: list[Mapping[str, Any]]  # n, with the columns of CANDIDATES
    logits: np.ndarray  # float32[n]
    fusion: np.ndarray  # float32[n]
    similarities: np.ndarray  # float32[n, n]

    def ordered(self, blend: Blend) -> list[Mapping[str, Any]]:
        """The chunks, best first."""
        scores = blend.scores(self.logits, self.fusion, self.similarities)
        return [self.chunks[i] for i in np.argsort(-scores, kind="stable")]


def score_pools(
    judged: Judged, reranker: Reranker, settings: Settings, report: Callable[[int, int], None] = lambda *_: None
) -> dict[str, Pool]:
    """Every query's pool, scored."""
    fused = settings.model_copy(update={"reranker": "fusion", "deadline_ms": None})
    pools = {}
    for done, (query, text) in enumerate(judged.queries.items(), start=1):
        ranking = rank(text, fused)
        refs = [ref for ref, _ in ranking.stages["rerank"]]
        rows = places(ranking.reader, refs)
        pools[query] = Pool(
            [rows[ref] for ref in refs],
            reranker.score(text, passages(ranking.reader, refs, settings)),
            np.array([score for _, score in ranking.stages["rerank"]], dtype=np.float32),
            similarities(ranking.reader, refs),
        )
        report(done, len(judged.queries))
    return pools


def by_blend(judged: Judged, pools: Mapping[str, Pool]) -> dict[Blend, float]:
    """Mean nDCG@10 of every blend."""
    namer = Namer(judged.names)
    found = {}
    for blend in BLENDS:
        run = {q: [answer.name for answer in namer.answers(pool.ordered(blend))] for q, pool in pools.items()}
        found[blend] = float(np.mean(list(values(judged, run)[HEADLINE].values())))
    return found


def best_blend(judged: Judged, pools: Mapping[str, Pool]) -> Blend:
    """The blend with the best nDCG@10; of equal ones that with the least weights."""
    found = by_blend(judged, pools)
    return max(found, key=found.__getitem__)

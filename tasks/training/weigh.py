"""How much of fusion's score the final order adds to a reranker's: the weight that answers judged queries best.

A linear model of both, one weight to learn, as the final order of the pool (tasks.search.rank).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.settings import Settings
from tasks.evaluate.candidates import places
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import HEADLINE, values
from tasks.evaluate.runs import Namer
from tasks.models.speed import Reranker
from tasks.passages import passages
from tasks.search import rank

# A logit's steps are about one; fusion's scores are between 0 and 1, those of a pool mostly above one half.
WEIGHTS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)


@dataclass(frozen=True)
class Pool:
    """What a reranker and fusion make of one query's candidates."""

    chunks: list[Mapping[str, Any]]  # n, with the columns of CANDIDATES
    logits: np.ndarray  # float32[n]
    fusion: np.ndarray  # float32[n]

    def ordered(self, weight: float) -> list[Mapping[str, Any]]:
        """The chunks, best first."""
        return [self.chunks[i] for i in np.argsort(-(self.logits + weight * self.fusion), kind="stable")]


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
        )
        report(done, len(judged.queries))
    return pools


def by_weight(judged: Judged, pools: Mapping[str, Pool]) -> dict[float, float]:
    """Mean nDCG@10 of every weight."""
    namer = Namer(judged.names)
    found = {}
    for weight in WEIGHTS:
        run = {q: [answer.name for answer in namer.answers(pool.ordered(weight))] for q, pool in pools.items()}
        found[weight] = float(np.mean(list(values(judged, run)[HEADLINE].values())))
    return found


def best_weight(judged: Judged, pools: Mapping[str, Pool]) -> float:
    """The weight with the best nDCG@10; of equal ones the least."""
    found = by_weight(judged, pools)
    return max(found, key=found.__getitem__)

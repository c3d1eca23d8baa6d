"""How the final order of a pool comes of a reranker's scores: with fusion's beside them, and with those of the like.

Passages that say alike answer the same questions (the cluster hypothesis; Jardine and van Rijsbergen 1971, "The use of
hierarchic clustering in information retrieval"), so a score is drawn towards those of the candidates nearest to its
own: one step of score regularization (Diaz 2005, "Regularizing ad hoc retrieval scores"). What a reranker misreads
once, it reads right in the passages beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# that draw a candidate's score; 3 orders better than 2, 4, 5 or 8 (python -m tests.benchmarks.blended)
NEIGHBOURS = 3


@dataclass(frozen=True)
class Blend:
    """What the final order takes beside a reranker's own score; by default nothing."""

    fusion: float = 0.0  # times fusion's weighted score, from 0 to 1, is added
    neighbours: float = 0.0  # the share of the nearest candidates' mean, from 0 to 1

    def scores(self, own: np.ndarray, fusion: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """float32[m], by which to order the first m candidates: those that have a score of their `own`, float32[m].

        `fusion` is float32[n], n ≥ m, and `similarities` the cosines of the candidates to each other, float32[n, n].
        """
        found = len(own)
        added = own + self.fusion * fusion[:found]
        if not self.neighbours or found < 2:
            return np.asarray(added, dtype=np.float32)
        others = similarities[:found, :found].copy()
        np.fill_diagonal(others, -np.inf)
        nearest = np.argsort(-others, axis=1, kind="stable")[:, : min(NEIGHBOURS, found - 1)]
        drawn = (1 - self.neighbours) * added + self.neighbours * added[nearest].mean(axis=1)
        return np.asarray(drawn, dtype=np.float32)

"""Decide the final order of the pool.

Two rerankers in this file's terms: a cross-encoder that reads query and passage together, and `fusion`, which only
recombines the scores that the first stages gave and needs no model.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import numpy as np

from schemas.errors import ModelNotFound
from schemas.settings import Settings
from tasks.models.cross_encoder import CrossEncoder

logger = logging.getLogger(__name__)

DEFAULT_CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L6-v2"


@functools.lru_cache(maxsize=2)
def load_reranker(settings: Settings) -> tuple[CrossEncoder | None, str | None]:
    """The cross-encoder that the settings ask for, or None and, where one was wanted, why there is none.

    Raises ModelNotFound or ModelMismatch where a model that is named cannot be used; only `auto` falls back.
    """
    if settings.reranker == "fusion":
        return None, None
    if settings.reranker != "auto":
        return CrossEncoder(settings.reranker, settings), None
    try:
        return CrossEncoder(DEFAULT_CROSS_ENCODER, settings), None
    except ModelNotFound:
        logger.info("no cross-encoder on this machine, fusion orders the hits")
        return None, f"{DEFAULT_CROSS_ENCODER} is not on this machine"


def passage(title: str, headings: str, text: str) -> str:
    """What a cross-encoder reads of a chunk."""
    place = " > ".join(part for part in (title, headings) if part and part not in text)
    return f"{place}\n{text}" if place else text


def fusion_scores(cosines: Sequence[float], lexical: Sequence[float], vector_weight: float) -> np.ndarray:
    """Weighted mean of cosine and BM25, each divided by the pool's maximum; float64[n] in [0, 1].

    A convex combination of scores normalised by their theoretical minimum, 0, and the pool's maximum: Bruch, Gai &
    Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval". What it gains over RRF stands in the README.
    """
    return np.asarray(vector_weight * _scaled(cosines) + (1 - vector_weight) * _scaled(lexical))


def _scaled(scores: Sequence[float]) -> np.ndarray:
    values = np.maximum(np.asarray(scores, dtype=np.float64), 0.0)
    return np.asarray(values / (values.max(initial=0.0) or 1.0))

"""Decide the final order of the pool.

Two rerankers in this file's terms: a cross-encoder that reads query and passage together, and `fusion`, which only
recombines the scores of the first stages (tasks.fuse) and needs no model.
"""

from __future__ import annotations

import functools
import logging

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

"""Decide the final order of the pool: which reranker does, and how much of the pool a deadline leaves it.

Two rerankers in this file's terms: a cross-encoder that reads query and passage together, and `fusion`, which only
recombines the scores of the first stages (tasks.fuse) and needs no model.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from schemas.errors import ModelNotFound
from schemas.settings import Settings
from tasks.models import only
from tasks.models.cross_encoder import CrossEncoder
from tasks.models.speed import Reranker, Speed, work

logger = logging.getLogger(__name__)

DEFAULT_CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L6-v2"

# Of a deadline, until the last score; the rest is for reading the hits.
SPENT = 0.95
# Of the time that is left, this is planned at once: a machine that turns three times as slow still keeps the deadline.
SHARE = 1 / 3


def load_reranker(settings: Settings) -> tuple[Reranker | None, str | None]:
    """The reranker that the settings ask for, or None and, where one was wanted, why there is none.

    Loaded once a process. Raises ModelNotFound or ModelMismatch where a model that is named cannot be used; only `auto`
    falls back.
    """
    found = _reranker(only(settings, "reranker", "rerank_precision", "rerank_tokens", "embed_threads"))
    if found[0] is not None and settings.deadline_ms is not None:
        speed_of(found[0], settings.cache)  # measured now, where it is not known yet, and not within the deadline
    return found


@functools.lru_cache(maxsize=2)
def _reranker(settings: Settings) -> tuple[Reranker | None, str | None]:
    if settings.reranker == "fusion":
        return None, None
    if settings.reranker != "auto":
        return CrossEncoder(settings.reranker, settings), None
    try:
        return CrossEncoder(DEFAULT_CROSS_ENCODER, settings), None
    except ModelNotFound:
        logger.info("no cross-encoder on this machine, fusion orders the hits")
        return None, f"{DEFAULT_CROSS_ENCODER} is not on this machine"


@functools.lru_cache(maxsize=2)
def speed_of(reranker: Reranker, cache: Path) -> Speed:
    """What the reranker takes on this machine."""
    return Speed(reranker, cache)


def score_pool(
    reranker: Reranker, query: str, texts: Sequence[str], settings: Settings, *, least: int, started: float
) -> tuple[np.ndarray, str | None]:
    """float32[m], the scores of the first m of `texts`, and where a deadline left some out, a word about it.

    The deadline counts from `started`, of time.perf_counter(). `m` is 0 where there was no time for `least` of them.
    """
    if settings.deadline_ms is None:
        return reranker.score(query, texts), None
    ends = started + settings.deadline_ms * SPENT / 1000
    speed = speed_of(reranker, settings.cache)
    scores = score_until(ends, reranker, speed, query, texts, least=least, at_once=settings.embed_threads)
    if len(scores) < least:
        return scores[:0], f"{settings.deadline_ms} ms are too few for {reranker.name} to score {least} candidates"
    if len(scores) < len(texts):
        return scores, f"{settings.deadline_ms} ms ended before the other {len(texts) - len(scores)} of the pool"
    return scores, None


def score_until(
    ends: float, reranker: Reranker, speed: Speed, query: str, texts: Sequence[str], *, least: int, at_once: int
) -> np.ndarray:
    """float32[m], the scores of the first m of `texts`: as many as are done when time.perf_counter() says `ends`.

    In batches, `at_once` texts or more, each only begun where what the last ones took says that it ends in time, and
    left behind where it does not; none where no time for `least` of them is to be expected.
    """
    wanted = texts[: max(least, at_once)]
    if speed.ms(query, wanted) > (ends - time.perf_counter()) * 1000:
        speed.learn(speed.rate / 2)  # a slow hour is not believed for ever: some queries later it is tried again
        return np.empty(0, dtype=np.float32)
    scores: list[np.ndarray] = []
    done, rate, spent, worked = 0, speed.rate, 0.0, 0.0
    while rest := texts[done:]:
        left = (ends - time.perf_counter()) * 1000
        batch = rest[: max(_fitting(query, rest, left * SHARE / rate) // at_once * at_once, at_once)]
        if rate * work(query, batch) > left:
            break
        started = time.perf_counter()
        scored = _in_time(ends, reranker, query, batch)
        took = (time.perf_counter() - started) * 1000
        spent, worked = spent + took, worked + work(query, batch)
        if scored is None:
            break
        scores.append(scored)
        done += len(batch)
        # the worse of the last batch and of all: a machine gets busy from one moment to the next
        rate = max(took / work(query, batch), spent / worked)
    if worked:
        speed.learn(spent / worked)  # at least so slow, where a batch was left behind
    return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)


def _in_time(ends: float, reranker: Reranker, query: str, texts: Sequence[str]) -> np.ndarray | None:
    """The scores, or None where they are not there at `ends`: then a thread is left behind that works on them alone."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="rerank")
    try:
        return thread.submit(reranker.score, query, texts).result(timeout=max(ends - time.perf_counter(), 0))
    except TimeoutError:
        return None
    finally:
        thread.shutdown(wait=False)


def _fitting(query: str, texts: Sequence[str], most: float) -> int:
    """How many of the first texts are at most so much work."""
    return int(np.searchsorted(np.cumsum([work(query, [text]) for text in texts]), most, side="right"))

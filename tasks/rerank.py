"""Decide the final order of the pool: which rerankers do, one after the other, and how much a deadline leaves them.

`fusion` only recombines the scores of the first stages (tasks.fuse) and needs no model; the others read query and
passage: a cross-encoder (tasks.models.cross_encoder) or one of another kind (tasks.models.rerankers). In a
cascade each reorders the first of what the one before gave, and the rest keep their order below. One that fails, or has
no time, leaves the order as it is: that of the stage before, or of fusion.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.errors import RerankerFailed
from schemas.reranking import kind_of, stage_names
from schemas.settings import Settings
from tasks.models import only
from tasks.models.cross_encoder import load_cross_encoder
from tasks.models.rerankers import load
from tasks.models.rerankers.remote import Remote
from tasks.models.speed import Reranker, Speed

logger = logging.getLogger(__name__)

# Of a deadline, until the last score; the rest is for reading the hits.
SPENT = 0.95
# Of the time that is left, this is planned at once: a machine that turns three times as slow still keeps the deadline.
SHARE = 1 / 3

FUSION = "fusion"  # what orders without a reranker

Order = list[tuple[int, float]]  # candidates by their place before reranking, and their scores, best first


@dataclass(frozen=True)
class Stage:
    """A reranker of a cascade."""

    reranker: Reranker | None  # None: fusion orders
    pool: int  # candidates that it reads at most


@dataclass(frozen=True)
class Reranked:
    """What a cascade made of the candidates."""

    orders: dict[str, Order]  # `rerank 1`, …, what each stage read; and `rerank`, the final order of all
    reranker: str  # who gave it: a name, or `NAME@POOL > NAME@POOL`
    fallback: str | None  # why a wanted reranker did not run, or not over its whole pool


def load_cascade(settings: Settings, k: int = 1) -> tuple[Stage, ...]:
    """The stages that the settings ask for; a first one that names no pool reads the `k` that are wanted at least.

    Errors as of `load_reranker`.
    """
    stages: list[Stage] = []
    for named in stage_names(settings.reranker):
        most = stages[-1].pool if stages else max(settings.pool, k)
        reranker = load_reranker(settings.model_copy(update={"reranker": named.name}))
        stages.append(Stage(reranker, most if named.pool is None else named.pool))
    return tuple(stages)


def load_reranker(settings: Settings) -> Reranker | None:
    """The one reranker that the settings name; None for fusion.

    Loaded once a process. Raises ModelNotFound or ModelMismatch where a model that is named cannot be used, and
    MissingRequirement where a package or key is not there.
    """
    found = _reranker(
        only(
            settings, "reranker", "rerank_precision", "rerank_tokens", "rerank_urls", "rerank_secrets",
            "rerank_timeout_s", "rerank_llm", "rerank_cache_mb", "embed_threads",
        )
    )  # fmt: skip
    if settings.deadline_ms is not None and found is not None and not isinstance(found, Remote):
        speed_of(found, settings.cache)  # measured now, where it is not known yet, and not within the deadline
    return found


@functools.lru_cache(maxsize=8)  # a cascade, and another beside it
def _reranker(settings: Settings) -> Reranker | None:
    name = settings.reranker
    if name == FUSION:
        return None
    if (kind := kind_of(name)) is not None:
        return load(kind, name.partition(":")[2], settings)
    return load_cross_encoder(name, settings)


@functools.lru_cache(maxsize=8)
def speed_of(reranker: Reranker, cache: Path) -> Speed:
    """What the reranker takes on this machine."""
    return Speed(reranker, cache)


def rerank(
    cascade: Sequence[Stage],
    query: str,
    settings: Settings,
    *,
    count: int,
    read: Callable[[Sequence[int]], list[str]],
    fused: Callable[[], np.ndarray],
    alike: Callable[[Sequence[int]], np.ndarray],
    least: int,
    started: float,
) -> Reranked:
    """Order `count` candidates by the stages of a cascade.

    Of some of them, by place, `read` gives the passages and `alike` the cosines to each other, float32[n, n]; `fused`
    gives float32[count], the scores of fusion. A stage that cannot score `least` of its candidates scores none. A
    deadline counts from `started`, of time.perf_counter(), and each stage has an equal share of what is left of it.
    """
    if not count:
        return Reranked({"rerank": []}, _said([(stage, _name(stage.reranker)) for stage in cascade]), None)
    orders: list[Order] = []
    order: Order = []
    ran: list[tuple[Stage, str]] = []
    reasons: list[str] = []
    for number, stage in enumerate(cascade):
        head = [place for place, _ in order[: stage.pool]] if order else list(range(count))[: stage.pool]
        scores, reason, name = np.empty(0, dtype=np.float32), None, _name(stage.reranker)
        if stage.reranker is not None:
            ends = _ends(settings, started, share=len(cascade) - number)
            enough = min(least, len(head))
            blend = stage.reranker.blend
            # before the reranker works: that takes what a deadline leaves
            beside = fused()[head] if blend.fusion else np.zeros(len(head))
            similarities = alike(head) if blend.neighbours else np.zeros((len(head), len(head)))
            scores, reason = score_pool(stage.reranker, query, read(head), settings, least=enough, ends=ends)
            scores = blend.scores(scores, beside, similarities)
        if not len(scores) and not order:
            head, scores, name = list(range(count)), fused(), FUSION
        if len(scores):
            below = order[len(scores) :]
            if not order and len(head) < count:  # more hits are wanted than it may read
                below = best_first(range(len(scores), count), fused()[len(scores) :])
            orders.append(best_first(head, scores))
            order = orders[-1] + below
            ran.append((stage, name))
        if reason:
            reasons.append(reason)
    stages = {f"rerank {number}": found for number, found in enumerate(orders[:-1], start=1)}
    return Reranked(stages | {"rerank": order}, _said(ran), "; ".join(reasons) or None)


def _ends(settings: Settings, started: float, *, share: int) -> float | None:
    """When time.perf_counter() says that one stage of so many has had its part of the deadline."""
    if settings.deadline_ms is None:
        return None
    now = time.perf_counter()
    return now + (started + settings.deadline_ms * SPENT / 1000 - now) / share


def _name(reranker: Reranker | None) -> str:
    return FUSION if reranker is None else reranker.name


def _said(ran: Sequence[tuple[Stage, str]]) -> str:
    """Who ordered, as the setting would say it."""
    return ran[0][1] if len(ran) == 1 else " > ".join(f"{name}@{stage.pool}" for stage, name in ran)


def best_first(places: Sequence[int], scores: np.ndarray) -> Order:
    """The first of `places` by their float32[m] `scores`; equal ones in the order given."""
    return sorted(zip(places, scores.tolist(), strict=False), key=lambda item: -item[1])


def score_pool(
    reranker: Reranker, query: str, texts: Sequence[str], settings: Settings, *, least: int, ends: float | None
) -> tuple[np.ndarray, str | None]:
    """float32[m], the scores of the first m of `texts`, and a word about those that are not.

    Until time.perf_counter() says `ends`, where it is given. `m` is 0 where there was no time for `least` of them, or
    where a server failed.
    """
    if isinstance(reranker, Remote):  # all or nothing: how long it takes is known when it is done
        seconds = reranker.seconds if ends is None else min(ends - time.perf_counter(), reranker.seconds)
        try:
            return reranker.score_within(seconds, query, texts), None
        except RerankerFailed as error:
            logger.warning("reranker failed, the order before it stands: %s", error)
            return np.empty(0, dtype=np.float32), str(error)
    if ends is None:
        return reranker.score(query, texts), None
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
    works = speed.works(query, texts)
    if speed.rate * works[: max(least, at_once)].sum() > (ends - time.perf_counter()) * 1000:
        speed.learn(speed.rate / 2)  # a slow hour is not believed for ever: some queries later it is tried again
        return np.empty(0, dtype=np.float32)
    scores: list[np.ndarray] = []
    done, rate, spent, worked = 0, speed.rate, 0.0, 0.0
    while done < len(texts):
        left = (ends - time.perf_counter()) * 1000
        fitting = int(np.searchsorted(np.cumsum(works[done:]), left * SHARE / rate, side="right"))
        end = min(done + max(fitting // at_once * at_once, at_once), len(texts))
        work = float(works[done:end].sum())
        if rate * work > left:
            break
        started = time.perf_counter()
        scored = _in_time(ends, reranker, query, texts[done:end])
        took = (time.perf_counter() - started) * 1000
        spent, worked = spent + took, worked + work
        if scored is None:
            break
        scores.append(scored)
        done = end
        # the worse of the last batch and of all: a machine gets busy from one moment to the next
        rate = max(took / work, spent / worked)
    if worked > 2 * speed.compared(query) * done:  # else it was hardly reading
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

"""How much of a pool a deadline leaves to a reranker, on a clock of the tests' own and on the real one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import tasks.models.speed
import tasks.rerank
from flows.local import local_refresh
from schemas.settings import Settings
from tasks.blend import Blend
from tasks.models.speed import Speed
from tasks.rerank import score_until
from tasks.search import search
from tests.conftest import CORPUS

QUESTION = "which vector store does not need a separate server?"


class Clock:
    """Time that passes only when a reranker works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def read(query: str, texts: Sequence[str]) -> float:
    """Thousands of characters."""
    return sum(len(query) + len(text) for text in texts) / 1000


class Simulated:
    """A reranker that takes `rate` milliseconds for 1,000 characters, and scores a text by its length."""

    name = fingerprint = "simulated"
    blend = Blend()

    def __init__(self, clock: Clock, rate: float) -> None:
        self.clock, self.rate = clock, rate

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.clock.now += self.rate * read(query, texts) / 1000
        return np.array([len(text) for text in texts], dtype=np.float32)


@contextmanager
def simulated(clock: Clock) -> Iterator[None]:
    """Time is the clock's, and nothing is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.rerank.time, "perf_counter", clock.perf_counter)
        patch.setattr(tasks.rerank, "_in_time", lambda _, reranker, query, texts: reranker.score(query, texts))
        patch.setattr(tasks.models.speed, "_read", lambda _: {})
        patch.setattr(Speed, "_write", lambda _: None)
        yield


@examples(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 1500), min_size=1, max_size=60),
    milliseconds=st.integers(1, 2000),
    slower=st.floats(0.2, 3.0),
    at_once=st.integers(1, 4),
)
def test_deadline_is_kept_by_a_machine_three_times_as_slow_as_believed(
    lengths: list[int], milliseconds: int, slower: float, at_once: int
) -> None:
    clock = Clock()
    reranker = Simulated(clock, 10.0)
    texts = ["x" * length for length in lengths]
    with simulated(clock):
        speed = Speed(reranker, Path())
        clock.now = 0.0
        reranker.rate *= slower
        scores = score_until(milliseconds / 1000, reranker, speed, "query", texts, least=1, at_once=at_once)
    assert scores.tolist() == lengths[: len(scores)]
    took = clock.now * 1000
    # the smallest batch may be begun when it fits as believed; it may then take three times as long
    smallest = 10.0 * read("query", ["x" * max(lengths)] * at_once)
    assert took <= milliseconds + max(0.0, slower - 1) * smallest + 1e-6
    if slower <= 1:
        assert took <= milliseconds + 1e-6
    if 0 < len(scores) < len(texts) and slower >= 1:  # what is left of the time is of no use
        assert milliseconds - took < slower * smallest + 1e-6


def test_nothing_is_scored_where_the_least_that_is_wanted_does_not_fit() -> None:
    clock = Clock()
    reranker = Simulated(clock, 10.0)
    with simulated(clock):
        speed = Speed(reranker, Path())
        clock.now = 0.0
        texts = ["x" * 995] * 20
        assert len(score_until(0.1, reranker, speed, "query", texts, least=11, at_once=1)) == 0
        assert clock.now == 0
        assert 8 <= len(score_until(0.1, reranker, speed, "query", texts, least=10, at_once=1)) <= 10


class Sleeping:
    """A reranker that takes twenty milliseconds a text and prefers the shortest."""

    name = fingerprint = "sleeping"
    blend = Blend()
    seconds = 0.02

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        time.sleep(self.seconds * len(texts))
        return np.array([-len(text) for text in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    root = tmp_path_factory.mktemp("deadline")
    settings = Settings(store=root / "store", cache=model_cache, rerank_fields="text")
    local_refresh([str(CORPUS)], settings, lambda *_: None)
    return settings


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch) -> Sleeping:
    reranker = Sleeping()
    monkeypatch.setattr(tasks.rerank, "load_reranker", lambda _: reranker)
    return reranker


def test_speed_is_measured_once_and_kept_per_processor_and_model(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.models.speed.time, "perf_counter", clock.perf_counter)
        reranker = Simulated(clock, 8.0)
        assert Speed(reranker, tmp_path).rate == pytest.approx(8.0)
        reranker.rate = 16.0
        again = Speed(reranker, tmp_path)
        assert again.rate == pytest.approx(8.0)  # kept, not measured
        again.learn(8.1)
        (kept,) = json.loads((tmp_path / "rerank-speed.json").read_text()).values()
        assert kept == 8.0  # not worth writing
        again.learn(16.0)
        (kept,) = json.loads((tmp_path / "rerank-speed.json").read_text()).values()
        assert kept == pytest.approx(again.rate, abs=1e-3)
        (tmp_path / "rerank-speed.json").write_text("{")
        assert Speed(reranker, tmp_path).rate == pytest.approx(16.0)  # damaged: measured again


def test_deadline_shrinks_the_pool_and_the_result_says_so(settings: Settings, sleeping: Sleeping) -> None:
    whole = search(QUESTION, settings, k=5)
    assert (whole.reranker, whole.fallback) == ("sleeping", None)
    search(QUESTION, settings.model_copy(update={"deadline_ms": 5000}), k=5)  # measures
    started = time.perf_counter()
    result = search(QUESTION, settings.model_copy(update={"deadline_ms": 500}), k=5)
    assert (time.perf_counter() - started) * 1000 < 500 * 1.2
    assert result.reranker == "sleeping"
    assert 5 <= result.pool < whole.pool
    assert result.fallback == f"500 ms ended before the other {whole.pool - result.pool} of the pool"
    assert {hit.stages["fusion"].rank for hit in result.hits} <= set(range(1, result.pool + 1))
    assert [len(hit.text) for hit in result.hits] == sorted(len(hit.text) for hit in result.hits)


def test_deadline_that_is_too_short_leaves_the_order_to_fusion(settings: Settings, sleeping: Sleeping) -> None:
    result = search(QUESTION, settings.model_copy(update={"deadline_ms": 100}), k=20)
    assert (result.reranker, len(result.hits)) == ("fusion", 20)
    assert result.fallback == "100 ms are too few for sleeping to score 20 candidates"


def test_where_there_is_time_for_all_a_deadline_changes_nothing(settings: Settings, sleeping: Sleeping) -> None:
    free = search(QUESTION, settings, k=5)
    generous = search(QUESTION, settings.model_copy(update={"deadline_ms": 10_000}), k=5)
    assert (generous.pool, generous.fallback) == (free.pool, None)
    assert [hit.chunk_id for hit in generous.hits] == [hit.chunk_id for hit in free.hits]


def test_deadline_is_kept_when_the_machine_stalls(settings: Settings, sleeping: Sleeping) -> None:
    timed = settings.model_copy(update={"deadline_ms": 500})
    search(QUESTION, timed, k=5)  # knows it as fast
    sleeping.seconds = 2.0
    started = time.perf_counter()
    result = search(QUESTION, timed, k=5)
    assert (time.perf_counter() - started) * 1000 < 500 * 1.2
    assert (result.reranker, len(result.hits)) == ("fusion", 5)
    # it learns not to begin, tries again now and then, and finds it when all is well
    assert min(search(QUESTION, timed, k=5).timings_ms["rerank"] for _ in range(10)) < 100
    sleeping.seconds = 0.02
    assert "sleeping" in {search(QUESTION, timed, k=5).reranker for _ in range(20)}

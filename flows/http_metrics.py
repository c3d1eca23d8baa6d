"""What the HTTP server tells Prometheus: requests, their time by stage, and the state of the store.

Every label has few values: paths and methods that the server does not know count as `other`. The store's figures are
read from its newest manifest when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.options import version
from flows.serving import Turns
from schemas.errors import HeadraceError
from schemas.records import Context, SearchResult
from tasks.store.reader import newest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CANDIDATES = (5, 10, 20, 35, 50, 75, 100, 200, 500)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, store: Path, turns: Turns) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        Info("headrace", "Version of Headrace.", registry=registry).info({"version": version()})
        self.requests = Counter("headrace_http_requests", "Requests answered.", ("path", "status"), registry=registry)
        self.seconds = Histogram(
            "headrace_http_request_seconds",
            "From a request to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "headrace_query_stage_seconds", "Stages of queries.", ("stage",), buckets=SECONDS, registry=registry
        )
        self._pool = Histogram(
            "headrace_query_pool", "Candidates that the reranker saw.", buckets=CANDIDATES, registry=registry
        )
        self._fallbacks = Counter(
            "headrace_query_fallbacks",
            "Queries, those for a context too, whose reranker did not run (none), or not over the whole pool (part).",
            ("reranked",),
            registry=registry,
        )
        for reranked in ("none", "part"):
            self._fallbacks.labels(reranked)
        running = Gauge("headrace_queries_running", "Queries that run now.", registry=registry)
        running.set_function(lambda: turns.running)
        waiting = Gauge("headrace_queries_waiting", "Queries that wait for their turn.", registry=registry)
        waiting.set_function(lambda: turns.waiting)
        ProcessCollector(registry=registry)
        registry.register(StoreCollector(store))

    def queried(self, result: SearchResult) -> None:
        """Count a query that was answered with hits."""
        for stage, milliseconds in result.timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        self._pool.observe(result.pool)
        self.ordered(result)

    def ordered(self, result: SearchResult | Context) -> None:
        """Count what a reranker left out."""
        if result.fallback:
            self._fallbacks.labels("none" if result.reranker == "fusion" else "part").inc()


class StoreCollector(Collector):
    """The newest generation in figures."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Read the figures; where the store cannot be read only that is told."""
        try:
            generation = newest(self._store).generation
        except HeadraceError:
            yield GaugeMetricFamily("headrace_store_readable", "Whether the store can be read.", 0)
            return
        yield GaugeMetricFamily("headrace_store_readable", "Whether the store can be read.", 1)
        published = datetime.fromisoformat(generation.created).timestamp()
        for name, meaning, value in (
            ("generation", "Number of the newest generation.", generation.number),
            ("generation_published_timestamp_seconds", "When it was published.", published),
            ("documents", "Documents that can be found.", generation.documents),
            ("chunks", "Chunks that can be found.", generation.chunks),
            ("quarantined_documents", "Files that could not be parsed.", generation.quarantined),
            ("segments", "Files of the index.", len(generation.segments)),
        ):
            yield GaugeMetricFamily(f"headrace_store_{name}", meaning, value)


class CountRequests:
    """ASGI middleware: counts and times what the server answers."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, paths: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"] if scope["path"] in self._paths else "other"
        status = 500  # what the server answers where the app only raises

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

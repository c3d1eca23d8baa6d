"""The ways to a query that need Prefect: in a flow, as a deployment, by a worker in the background, as a batch."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prefect import flow
from prefect.deployments import run_deployment
from prefect.futures import wait
from prefect.runner import Runner
from prefect.settings import get_current_settings
from prefect.utilities.annotations import unmapped

from flows.query import query_flow
from flows.query_batch import query_batch_flow
from schemas.errors import StoreNotFound
from schemas.records import Filter, SearchResult
from schemas.settings import Settings
from tasks.context import pack_context
from tasks.query import context, query
from tasks.search import search
from tasks.store.retention import rollback
from tasks.store.writer import committing
from tests.flows.conftest import QUERIES

ROOT = Path(__file__).parents[2]
QUESTION = QUERIES["vector"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("api")]


def found(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.chunk_id, pytest.approx(hit.score)) for hit in result.hits]


def test_task_called_mapped_and_submitted_in_a_flow_finds_what_search_finds(built: Settings) -> None:
    only_html = Filter(file_types=("html",))

    @flow
    def downstream() -> list[SearchResult]:
        called = query(QUESTION, k=3, settings=built)
        mapped = query.map(list(QUERIES.values()), k=2, settings=unmapped(built)).result()
        return [called, *mapped, query.submit(QUESTION, wanted=only_html, settings=built).result()]

    expected = [search(QUESTION, built, k=3), *(search(text, built, k=2) for text in QUERIES.values())]
    expected.append(search(QUESTION, built, wanted=only_html))
    assert list(map(found, downstream())) == list(map(found, expected))


def test_deployment_keeps_its_result_for_another_process_as_plain_json(built: Settings) -> None:
    async def run() -> Any:
        runner = Runner(limit=1)
        await runner.aadd_flow(query_flow, name="query")
        asked = {"text": QUESTION, "k": 2, "wanted": {"file_types": ["md"]}}
        settings = {"store": str(built.store), "cache": str(built.cache)}
        begun = await run_deployment("query/query", parameters={**asked, "settings": settings}, timeout=0)
        await runner.start(run_once=True)  # the flow runs in a process of its own
        async with get_client() as client:
            return await client.read_flow_run(begun.id)

    from prefect.client.orchestration import get_client

    ended = asyncio.run(run())
    expected = search(QUESTION, built, k=2, wanted=Filter(file_types=("md",)))
    result = ended.state.result()
    assert ended.name == f"query {QUESTION}"
    assert [(hit["chunk_id"], hit["score"]) for hit in result["hits"]] == found(expected)
    assert json.loads(json.dumps(result)) == result
    assert set(result) == set(asdict(expected))


@pytest.fixture
def worker(built: Settings, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Settings]]:
    """A worker that has loaded its models, whose files are then taken away; and the settings of its store."""
    store, cache = tmp_path / "store", tmp_path / "cache"
    shutil.copytree(built.store, store)
    shutil.copytree(built.cache, cache, copy_function=os.link)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "query-worker", "--store", str(store)],
        env={
            **os.environ,
            **get_current_settings().to_environment_variables(exclude_unset=True),
            "HEADRACE_CACHE": str(cache),
        },
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = []
        while "answers tasks of" not in "".join(said):
            said.append(process.stderr.readline())
            assert said[-1], "".join(said)
        cache.rename(tmp_path / "gone")
        yield process, built.model_copy(update={"store": store})
    finally:
        process.kill()
        process.communicate()


def test_worker_answers_from_models_that_stay_loaded_and_never_what_it_answered_before(
    worker: tuple[subprocess.Popen[str], Settings], tmp_path: Path
) -> None:
    process, settings = worker

    @flow
    def downstream() -> list[SearchResult]:
        before = query.delay(QUESTION, k=2).result(timeout=120)
        with committing(settings.store):
            rollback(settings.store, 1)
        return [before, query.delay(QUESTION, k=2).result(timeout=120)]

    before, after = downstream()
    assert (before.generation, after.generation) == (1, 2)
    assert found(before) == found(after) == found(search(QUESTION, settings, k=2))

    packed = context.delay(QUESTION, budget=300)
    missing = query.delay(QUESTION, settings=settings.model_copy(update={"store": tmp_path / "nowhere"}))
    wait([packed, missing], timeout=120)
    assert packed.result().prompt == pack_context(QUESTION, settings, budget=300).prompt
    with pytest.raises(StoreNotFound, match="nowhere"):
        missing.result()

    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_batch_flow_writes_the_hits_of_every_question(built: Settings, tmp_path: Path) -> None:
    questions, hits = tmp_path / "questions.jsonl", tmp_path / "hits.parquet"
    questions.write_text("".join(json.dumps({"id": name, "query": text}) + "\n" for name, text in QUERIES.items()))
    summary = query_batch_flow(questions, hits, k=2, settings=built)
    assert (summary.questions, summary.hits, summary.unanswered) == (3, 6, 0)
    expected = [chunk for text in QUERIES.values() for chunk in found(search(text, built, k=2))]
    assert [(row["chunk_id"], row["score"]) for row in pq.read_table(hits).to_pylist()] == expected

"""The `refresh` flow: tasks.refresh with each stage run as a Prefect task, artifacts, and an event a generation.

The stages stay plain functions: importing Prefect takes 2.6 s, and a one-shot `headrace ingest` does without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts
from flows.log import run_log
from flows.published import announce, announced
from flows.runners import stages
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.chunk import chunk_batch
from tasks.compact import compact_store
from tasks.embed import embed_batch
from tasks.merge import merge_batches
from tasks.parse import parse_batch
from tasks.refresh import Report, refresh
from tasks.retries import PATIENCE_S, RETRYING, patiently
from tasks.store.generation import read

logger = logging.getLogger(__name__)


def _parse_name(parameters: dict[str, Any]) -> str:
    return f"parse {parameters['name']}: {len(parameters['files']):,} files"


def _merge_name(parameters: dict[str, Any]) -> str:
    return f"merge {len(parameters['batches']):,} batches onto generation {parameters['base'].number}"


compact = task(name="compact", task_run_name="compact {settings.store}", **RETRYING)(announced(compact_store))

# a task run is a batch: it costs the server some 30 ms, a document would be lost in that
TASKS: dict[Callable[..., Any], Any] = {
    parse_batch: task(name="parse-batch", task_run_name=_parse_name, **RETRYING)(parse_batch),  # type: ignore[arg-type]
    chunk_batch: task(name="chunk-batch", task_run_name="chunk {batch.name}: {batch.documents} documents", **RETRYING)(
        chunk_batch
    ),
    embed_batch: task(name="embed-batch", task_run_name="embed {batch.name}: {batch.chunks} chunks", **RETRYING)(
        embed_batch
    ),
    compact_store: compact,
    merge_batches: task(name="merge-batches", task_run_name=_merge_name, **RETRYING)(  # type: ignore[arg-type]
        announced(merge_batches)
    ),
}


def _log_progress(stage: str, done: int, total: int) -> None:
    logger.info("progress stage=%s done=%d total=%d", stage, done, total)


# Who is told of progress: the command line sets its bars here, since a flow's parameters must be plain data.
progress: ContextVar[Report] = ContextVar("progress", default=_log_progress)


@flow(name="refresh", task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def refresh_flow(
    sources: list[str], settings: Settings | None = None, patience_s: float = PATIENCE_S
) -> RefreshSummary:
    """Bring a store up to date with its sources.

    Args:
        sources: Folders, files or globs; URLs such as s3://bucket/docs.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
        patience_s: Seconds to wait for another writer to end, a source to answer, or what else passes.
    """
    # with each task a worker gets this flow, pickled with all that its body names, from a file that it may not have
    from flows.refresh import refresh_store

    return refresh_store(sources, settings or Settings(), patience_s)


def refresh_store(sources: list[str], settings: Settings, patience_s: float) -> RefreshSummary:
    """What the flow does."""
    # workers may be started in other folders
    absolute = {name: getattr(settings, name).absolute() for name in ("store", "cache")}
    settings, bar = settings.model_copy(update=absolute), artifacts.Progress()

    def report(stage: str, done: int, total: int) -> None:
        progress.get()(stage, done, total)
        bar.report(stage, done, total)

    with run_log(), stages(TASKS, settings) as submit:
        summary = patiently(partial(refresh, sources, settings, submit, report), patience_s)
        if summary.gate:  # it published in this thread, not in a task
            announce(settings.store, read(settings.store))
        bar.end(summary)
        artifacts.keep(summary)
    return summary

"""The `refresh` flow: tasks.refresh with each stage run as a Prefect task, and an artifact at the end.

The stages stay plain functions: importing Prefect takes 2.6 s, and a one-shot `headrace ingest` does without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.summary import one_line, summary_markdown
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.chunk import chunk_batch
from tasks.compact import compact_store
from tasks.embed import embed_batch
from tasks.merge import merge_batches
from tasks.parse import parse_batch
from tasks.refresh import Report, refresh
from tasks.retries import RETRYING

logger = logging.getLogger(__name__)

# a task run is a batch: it costs the server some 30 ms, a document would be lost in that
TASKS: dict[Callable[..., Any], Any] = {
    parse_batch: task(name="parse-batch", task_run_name="parse {name}", **RETRYING)(parse_batch),
    chunk_batch: task(name="chunk-batch", task_run_name="chunk {batch.name}", **RETRYING)(chunk_batch),
    embed_batch: task(name="embed-batch", task_run_name="embed {batch.name}", **RETRYING)(embed_batch),
    compact_store: task(name="compact", task_run_name="compact {settings.store}", **RETRYING)(compact_store),
    merge_batches: task(name="merge-batches", task_run_name="merge onto {base.number}", **RETRYING)(merge_batches),
}


def _submit(stage: Callable[..., Any], *arguments: Any) -> PrefectFuture[Any]:
    future: PrefectFuture[Any] = TASKS[stage].submit(*arguments)
    return future


def _log_progress(stage: str, done: int, total: int) -> None:
    logger.info("progress stage=%s done=%d total=%d", stage, done, total)


# Who is told of progress: the command line sets its bars here, since a flow's parameters must be plain data.
progress: ContextVar[Report] = ContextVar("progress", default=_log_progress)


@flow(name="refresh", task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def refresh_flow(sources: list[str], settings: Settings | None = None) -> RefreshSummary:
    """Bring a store up to date with its sources.

    Args:
        sources: Folders, files or globs.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    summary = refresh(sources, settings or Settings(), _submit, progress.get())
    create_markdown_artifact(summary_markdown(summary), key="refresh-summary", description=one_line(summary))
    return summary

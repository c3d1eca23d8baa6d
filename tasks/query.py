"""The query as a Prefect task: `tasks.search.search` with retries, for use inside other flows."""

from __future__ import annotations

from prefect import task

from schemas.records import SearchResult
from schemas.settings import Settings
from tasks.retries import RETRYING
from tasks.search import search


@task(name="query", task_run_name="query {text}", **RETRYING)
def query(text: str, settings: Settings, k: int = 10) -> SearchResult:
    """The `k` best chunks for `text`; see tasks.search.search."""
    return search(text, settings, k=k)

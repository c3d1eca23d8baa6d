"""The query as Prefect tasks: `tasks.search.search` and `tasks.context.pack_context` with retries, for other flows."""

from __future__ import annotations

from prefect import task

from schemas.records import Context, Form, Order, SearchResult
from schemas.settings import Settings
from tasks.context import pack_context
from tasks.retries import RETRYING
from tasks.search import search


@task(name="query", task_run_name="query {text}", **RETRYING)
def query(text: str, settings: Settings, k: int = 10) -> SearchResult:
    """The `k` best chunks for `text`; see tasks.search.search."""
    return search(text, settings, k=k)


@task(name="context", task_run_name="context {text}", **RETRYING)
def context(
    text: str, settings: Settings, budget: int = 2000, k: int = 20, form: Form = "markdown", order: Order = "best"
) -> Context:
    """The best chunks for `text` as a prompt of at most `budget` tokens; see tasks.context.pack_context."""
    return pack_context(text, settings, budget=budget, k=k, form=form, order=order)

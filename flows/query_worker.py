"""`headrace query-worker`: answers `query.delay(…)` and `context.delay(…)` of other programs, with models that stay."""

from __future__ import annotations

import os
from contextlib import suppress

import typer

from flows.options import StoreOption, err, settings_of
from flows.serving import warm


def query_worker(store: StoreOption = None) -> None:
    """Answer what Prefect tasks ask in the background: `query.delay("a question")`, `context.delay("a question")`.

    Start as many as are needed, on any machine that has the store, against the API that PREFECT_API_URL or the active
    profile names. Settings are those of the worker's environment and headrace.toml, where a task brings none.

    Example: headrace query-worker --store ./index
    """
    from flows.tracking import api_configured, require_api

    if not api_configured():
        raise typer.BadParameter(
            "no Prefect API is configured; start one with `prefect server start` and set PREFECT_API_URL as it says"
        )
    settings = settings_of(store, None, {})
    os.environ["HEADRACE_STORE"] = str(settings.store.absolute())  # for tasks, which have no flags
    err.print("[dim]loading models …[/dim]")
    warm(settings)
    url = require_api()

    from prefect.cache_policies import CachePolicy
    from prefect.task_worker import serve

    from tasks.query import context, query

    # A result is fetched by its key. Prefect's worker would take one of the task's inputs, and answer a question that a
    # flow asks again with what it was answered before.
    by_run = CachePolicy.from_cache_key_fn(lambda run, _: str(run.task_run.id))
    err.print(f"answers tasks of {url} from {settings.store}; Ctrl-C stops", highlight=False, markup=False)
    with suppress(KeyboardInterrupt):
        serve(*(task.with_options(cache_policy=by_run) for task in (query, context)), limit=settings.queries_at_once)
    err.print("stopped")

"""The query as Prefect tasks: `tasks.search.search` and `tasks.context.pack_context` with retries, for other flows.

    query("how do I transfer a domain?")             inside a flow, with its run's models loaded once
    query.map(questions, k=3), query.submit(…)       side by side, on the flow's task runner
    query.delay("how do I transfer a domain?")       by `headrace query-worker`, whose models stay loaded

As a run of its own it is the flow flows.query. Nothing is cached: a question asked again is answered from the newest
generation.
"""

from __future__ import annotations

from prefect import task

from schemas.records import Context, Filter, Form, Order, SearchResult
from schemas.settings import Settings
from tasks.context import pack_context
from tasks.retries import RETRYING
from tasks.search import search


@task(name="query", task_run_name="query {text:.80}", **RETRYING)
def query(
    text: str,
    k: int = 10,
    wanted: Filter | None = None,
    generation: int | None = None,
    settings: Settings | None = None,
) -> SearchResult:
    """The `k` best chunks for `text`; see tasks.search.search.

    Without `settings` those of the environment and headrace.toml, where it runs. To `map` them takes Prefect's
    `unmapped(settings)`.
    """
    return search(text, settings or Settings(), k=k, wanted=wanted, generation=generation)


@task(name="context", task_run_name="context {text:.80}", **RETRYING)
def context(
    text: str,
    budget: int = 2000,
    k: int = 20,
    form: Form = "markdown",
    order: Order = "best",
    wanted: Filter | None = None,
    generation: int | None = None,
    settings: Settings | None = None,
) -> Context:
    """The best chunks for `text` as a prompt of at most `budget` tokens; see tasks.context.pack_context.

    `settings` as for `query`.
    """
    return pack_context(
        text,
        settings or Settings(),
        budget=budget,
        k=k,
        form=form,
        order=order,
        wanted=wanted,
        generation=generation,
    )

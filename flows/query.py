"""The `query` flow: one question, as a run of its own that other systems can start as a deployment.

Annotations are evaluated here: `serve` pickles a flow without the names that only its annotations would use.
"""

from dataclasses import asdict
from typing import Any

from prefect import flow

from schemas.records import Filter
from schemas.settings import Settings
from tasks.query import query


# as JSON: who fetches the result needs neither Headrace nor this Python
@flow(name="query", flow_run_name="query {text:.80}", persist_result=True, result_serializer="json")
def query_flow(
    text: str,
    k: int = 10,
    wanted: Filter | None = None,
    generation: int | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Search a store and return the hits as plain data.

    Args:
        text: The question.
        k: How many hits.
        wanted: Which documents may answer, such as {"paths": ["ecs/*.md"]}; all of them where nothing is given.
        generation: An older generation to search, not the newest.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    return asdict(query(text, k, wanted, generation, settings))

"""The `query` flow: one question, as a run of its own that other systems can start as a deployment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow

from schemas.settings import Settings
from tasks.query import query


@flow(name="query", flow_run_name="query {text}", persist_result=True)
def query_flow(text: str, k: int = 10, settings: Settings | None = None) -> dict[str, Any]:
    """Search a store and return the hits as plain data.

    Args:
        text: The question.
        k: How many hits.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    return asdict(query(text, settings or Settings(), k=k))

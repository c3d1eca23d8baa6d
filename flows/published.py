"""The event `headrace.generation.published`: what automations and triggers of deployments react to.

It is sent by the flows that publish, never by a one-shot command, and comes at least once a generation. Its id is
that of the generation, so that one sent twice is stored once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec
from uuid import NAMESPACE_URL, uuid5

from prefect.events import emit_event

from schemas.settings import Settings
from tasks.store.generation import Generation, current_number, exists

EVENT = "headrace.generation.published"

P = ParamSpec("P")


def resource_id(store: Path) -> str:
    """Names a store in events: `headrace.store./srv/headrace/index`."""
    return f"headrace.store.{store.absolute()}"


def announce(store: Path, generation: Generation) -> None:
    """Send the event of a generation that was just published."""
    resource = resource_id(store)
    emit_event(
        EVENT,
        resource={"prefect.resource.id": resource, "prefect.resource.name": f"store {store.name}"},
        payload={
            "store": str(store.absolute()),
            "generation": generation.number,
            "by": generation.event,
            "created": generation.created,
            "documents": generation.documents,
            "chunks": generation.chunks,
            "quarantined": generation.quarantined,
        },
        id=uuid5(NAMESPACE_URL, f"{resource}#{generation.number}@{generation.created}"),
    )


def announced(stage: Callable[P, Generation]) -> Callable[P, Generation]:
    """`stage`, which takes the settings and gives the newest generation, with an event where that is a new one."""
    signature = inspect.signature(stage)

    @functools.wraps(stage)
    def run(*args: P.args, **kwargs: P.kwargs) -> Generation:
        settings: Settings = signature.bind(*args, **kwargs).arguments["settings"]
        before = current_number(settings.store) if exists(settings.store) else 0
        generation = stage(*args, **kwargs)
        if generation.number > before:
            announce(settings.store, generation)
        return generation

    return run

"""What a refresh leaves in Prefect's interface: progress, summary, throughput, stage timings and quarantine.

They show what was done; whether it can be shown decides nothing: an API that does not answer costs a warning.
Names of files and reasons come from documents, which are untrusted, and Prefect reads a table's cells as Markdown, with
links and pictures that a browser would fetch: they are shown as code.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.summary import one_line, summary_markdown, throughput
from flows.timings import timings_plot
from schemas.records import RefreshSummary
from tasks.prompt import code_span
from tasks.status import store_status
from tasks.store.generation import read

logger = logging.getLogger(__name__)

# Each update is a request to the API.
UPDATE_S = 5.0

# The interface pages through a table; what is longer is better asked of `headrace sql`.
MOST_ROWS = 1000


class Progress:
    """A bar for the documents of a run: what is parsed of them, and what is embedded of that."""

    def __init__(self) -> None:
        self._updated = -UPDATE_S
        self._shares = {"parse": 0.0, "embed": 0.0}
        self._artifact: UUID | None = None
        with shown():
            self._artifact = cast(
                UUID, create_progress_artifact(0.0, key="refresh-progress", description="documents embedded")
            )

    def report(self, stage: str, done: int, total: int) -> None:
        """Take what tasks.refresh reports."""
        if stage not in self._shares or not total:
            return
        self._shares[stage] = done / total
        if time.monotonic() - self._updated >= UPDATE_S:
            self._show(100 * self._shares["parse"] * self._shares["embed"], "documents embedded")

    def end(self, summary: RefreshSummary) -> None:
        """Show that the run is done."""
        self._show(100.0, one_line(summary))

    def _show(self, percent: float, description: str) -> None:
        self._updated = time.monotonic()
        if self._artifact is None:
            return
        with shown():
            update_progress_artifact(self._artifact, percent, description)


def keep(summary: RefreshSummary) -> None:
    """Leave a run's artifacts; a run that found nothing new leaves its summary."""
    line = one_line(summary)
    with shown():
        create_markdown_artifact(summary_markdown(summary), key="refresh-summary", description=line)
    if not summary.published:
        return
    with shown():
        create_table_artifact(throughput(summary), key="refresh-throughput", description=line)
    with shown():
        create_image_artifact(_data_url(timings_plot(summary)), key="refresh-timings", description=line)
    store = Path(summary.store)
    if read(store).quarantined:
        rows = [
            {"path": _literal(file.path), "kind": file.kind, "reason": _literal(file.reason)}
            for file in store_status(store).quarantine
        ]
        with shown():
            create_table_artifact(
                rows[:MOST_ROWS], key="refresh-quarantine", description=f"{len(rows):,} files in quarantine"
            )


@contextmanager
def shown() -> Iterator[None]:
    """Log an API that does not take an artifact, and go on."""
    try:
        yield
    except httpx.HTTPError as error:
        logger.warning("artifact not kept error=%s", error)


def _literal(text: str) -> str:
    return code_span(" ".join(text.split()))


def _data_url(svg: str) -> str:
    """The picture itself as its URL: Prefect keeps no files, and a path or a bucket would need one that serves it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"

"""Run a refresh in this process, without Prefect: threads for the stages, stamina for the retries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import stamina

from schemas.errors import is_transient
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.refresh import Report, Submit, refresh


def local_refresh(sources: Sequence[str], settings: Settings, report: Report) -> RefreshSummary:
    """Refresh `settings.store` from `sources`; see tasks.refresh.refresh."""
    with stage_threads() as submit:
        return refresh(sources, settings, submit, report)


@contextmanager
def stage_threads() -> Iterator[Submit]:
    """Threads that run stages, and again what fails for a reason that passes."""
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="stage") as executor:

        def submit(stage: Callable[..., Any], *arguments: Any) -> Future[Any]:
            return executor.submit(stamina.retry(on=is_transient, attempts=4, wait_initial=0.5)(stage), *arguments)

        try:
            yield submit
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise

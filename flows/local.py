"""Run a refresh in this process, without Prefect: threads for the stages, stamina for the retries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import stamina

from schemas.errors import is_transient
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.refresh import Report, refresh


def local_refresh(sources: Sequence[str], settings: Settings, report: Report) -> RefreshSummary:
    """Refresh `settings.store` from `sources`; see tasks.refresh.refresh."""
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="stage") as executor:

        def submit(stage: Callable[..., Any], *arguments: Any) -> Future[Any]:
            return executor.submit(stamina.retry(on=is_transient, attempts=4, wait_initial=0.5)(stage), *arguments)

        try:
            return refresh(sources, settings, submit, report)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise

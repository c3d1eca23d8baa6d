"""How Prefect tasks and flows try again: what can pass, with growing pauses; what cannot, never.

Which is which is decided by schemas.errors.is_transient alone. A task tries three times more, within seconds. A flow
waits longer, for what holds up all of it: another writer, a source that does not answer. It does so in its own process,
and not by Prefect's `retries`, which know no condition and would repeat a misspelt source as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import stamina
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from schemas.errors import is_transient

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds that a flow waits for what holds it up, all together: a long first ingest is not waited for to its end, an
# ordinary refresh or the publish of a watch is.
PATIENCE_S = 1800.0


def retry_if_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: ask `is_transient` about the error in a failed state."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)


# NO_CACHE: ledger and staging are the truth about what is done; a cache hit would not check its Parquet file
RETRYING: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retry_if_transient,
    "cache_policy": NO_CACHE,
}


def patiently(work: Callable[[], T], patience_s: float) -> T:
    """What `work` gives, tried again for `patience_s` where it raises what can pass. Raises what it raised last."""

    def passes(error: Exception) -> bool:
        transient = is_transient(error)
        if transient and patience_s:
            logger.warning("waiting up to %d s, error=%s: %s", patience_s, type(error).__name__, error)
        return transient

    attempts = None if patience_s else 1
    return stamina.retry(
        on=passes, attempts=attempts, timeout=patience_s or None, wait_initial=1.0, wait_max=30.0, wait_jitter=1.0
    )(work)()

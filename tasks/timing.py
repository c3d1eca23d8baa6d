"""Stages tell how long they worked."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec

from schemas.records import BatchRef

P = ParamSpec("P")


def timed(stage: str) -> Callable[[Callable[P, BatchRef]], Callable[P, BatchRef]]:
    """Add the seconds that a stage worked on a batch to the batch it returns."""

    def decorate(function: Callable[P, BatchRef]) -> Callable[P, BatchRef]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> BatchRef:
            start = time.perf_counter()
            batch = function(*args, **kwargs)
            return replace(batch, seconds={**batch.seconds, stage: time.perf_counter() - start})

        return run

    return decorate

"""What Headrace logs, in the log of the flow run that is under way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.handlers import APILogHandler

# Not by Prefect's setting for it, PREFECT_LOGGING_EXTRA_LOGGERS: a worker reads that before it imports a flow, and the
# level stays the root's, WARNING, without which every request of every library would be logged too.
LOGGERS = ("flows", "tasks")


@contextmanager
def run_log() -> Iterator[None]:
    """Send what is logged at INFO and above to Prefect, which keeps it with the flow and task run that it came from."""
    handler = APILogHandler(logging.INFO)
    levels = {}
    for name in LOGGERS:
        logger = logging.getLogger(name)
        levels[logger] = logger.level
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
        if not any(
            isinstance(there, APILogHandler) for there in logger.handlers
        ):  # by that setting, if somebody has it
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.removeHandler(handler)
            logger.setLevel(level)

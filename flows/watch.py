"""The `watch` flow: follow sources for as long as the run lives, and log each publish.

One run, which ends when it is cancelled. Its stages are no task runs, which Prefect keeps in memory until a run ends.
"""

from __future__ import annotations

from prefect import flow, get_run_logger

from flows.local import stage_threads
from flows.published import announce
from flows.summary import watch_line
from schemas.records import Published
from schemas.settings import Settings
from tasks.store.generation import read
from tasks.watch.loop import Watch


@flow(name="watch")
def watch_flow(sources: list[str], settings: Settings | None = None) -> None:
    """Keep a store up to date while its sources change.

    Args:
        sources: Folders, files or globs; remote sources are looked at every `rescan_hours`.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    logger, used = get_run_logger(), settings or Settings()

    def published(done: Published) -> None:
        logger.info("published %s", watch_line(done))
        announce(used.store, read(used.store))

    with stage_threads() as submit:
        Watch(sources, used, submit, published, logger.info).run()

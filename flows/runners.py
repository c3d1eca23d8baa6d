"""Where the stages of a refresh run: threads of the flow's process, processes, Dask or Ray, by the setting task_runner.

What reads files and models is spread: parse, chunk and embed. They hand each other Parquet in the store's staging
folder. Merging and compacting stay in the flow's process, which holds the store's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from prefect.utilities.callables import get_call_parameters

from schemas.errors import MissingRequirement
from schemas.settings import Settings
from tasks.chunk import chunk_batch
from tasks.embed import embed_batch
from tasks.parse import parse_batch
from tasks.refresh import Submit

SPREAD = (parse_batch, chunk_batch, embed_batch)

# One batch is parsed, in a process of its own, while another one is embedded.
THREADS_A_WORKER = 2


@contextmanager
def stages(tasks: dict[Callable[..., Any], Task[..., Any]], settings: Settings) -> Iterator[Submit]:
    """Gives the `submit` of tasks.refresh, in a flow run: `tasks` has the task of each stage.

    Raises MissingRequirement.
    """

    def here(stage: Callable[..., Any], *arguments: Any) -> PrefectFuture[Any]:
        future: PrefectFuture[Any] = tasks[stage].submit(*arguments)
        return future

    if settings.task_runner == "threads":
        yield here
        return

    # beside the flow's own runner: a worker makes one like that for each task that it runs
    with _workers(settings) as workers:

        def submit(stage: Callable[..., Any], *arguments: Any) -> PrefectFuture[Any]:
            if stage not in SPREAD:
                return here(stage, *arguments)
            future: PrefectFuture[Any] = workers.submit(tasks[stage], get_call_parameters(stage, arguments, {}))
            return future

        yield submit


def _workers(settings: Settings) -> TaskRunner[Any]:
    kind, _, address = settings.task_runner.partition(":")
    if kind == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.task_workers)
    try:
        make = _dask if kind == "dask" else _ray
        return make(address, settings.task_workers)
    except ImportError as error:
        raise MissingRequirement(
            f"task_runner {settings.task_runner} needs a package that is not installed ({error}): "
            f"pip install 'headrace[{kind}]'"
        ) from error


def _dask(address: str, workers: int) -> TaskRunner[Any]:
    import dask
    from prefect_dask import DaskTaskRunner

    # daemonic workers may not start processes, and parsers are processes
    dask.config.set({"distributed.worker.daemon": False})
    local = {"n_workers": workers, "threads_per_worker": THREADS_A_WORKER, "dashboard_address": None}
    runner: TaskRunner[Any] = DaskTaskRunner(address=address or None, cluster_kwargs=None if address else local)
    return runner


def _ray(address: str, workers: int) -> TaskRunner[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Headrace opens no connection of its own accord
    from prefect_ray import RayTaskRunner

    init = {} if address else {"num_cpus": workers, "include_dashboard": False}
    runner: TaskRunner[Any] = RayTaskRunner(address=address or None, init_kwargs=init)
    return runner

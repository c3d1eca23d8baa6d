"""The `query-batch` flow: a file of questions answered into a file of hits, each part a task run of its own.

Annotations are evaluated here: `serve` pickles a flow without the names that only its annotations would use.
"""

import logging
from pathlib import Path

from prefect import flow, task
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from schemas.records import Filter
from schemas.settings import Settings
from tasks.query_batch import BatchSummary, answer, join, prepared
from tasks.retries import RETRYING

logger = logging.getLogger(__name__)

answer_task = task(name="answer-part", task_run_name="answer {part.name}", **RETRYING)(answer)


# one part at a time: it answers queries_at_once questions at once; another task runner spreads parts over machines
@flow(name="query-batch", task_runner=ThreadPoolTaskRunner(max_workers=1))  # type: ignore[arg-type]
def query_batch_flow(
    questions: Path,
    hits: Path,
    k: int = 10,
    wanted: Filter | None = None,
    generation: int | None = None,
    settings: Settings | None = None,
) -> BatchSummary:
    """Answer a file of questions; a run after one that failed goes on where that stopped.

    Args:
        questions: JSONL with query and id a line, or Parquet with these columns.
        hits: Parquet file to write, a row a hit.
        k: How many hits a question.
        wanted: Which documents may answer, such as {"paths": ["ecs/*.md"]}; all of them where nothing is given.
        generation: An older generation to search, not the newest.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    used = settings or Settings()
    with prepared(questions, hits, used, k=k, wanted=wanted, generation=generation) as batch:
        parts = [answer_task.submit(part, used, generation=batch.generation, k=k, wanted=wanted) for part in batch.todo]
        wait(parts)
        for part in parts:
            part.result()  # or its error
        summary = join(batch)
    logger.info("answered %s", summary)
    return summary

"""The `train-reranker` flow: fine-tune a reranker on what was judged or clicked, on a schedule, as that grows.

Annotations are evaluated here: `serve` pickles a flow without the names that only its annotations would use.
"""

import logging
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.log import run_log
from schemas.settings import Settings
from tasks.evaluate.judged import read_clicks, read_judged
from tasks.training.fine_tune import Plan, fine_tune

logger = logging.getLogger(__name__)


@flow(name="train-reranker")
def train_reranker_flow(
    into: Path,
    queries: Path | None = None,
    qrels: Path | None = None,
    clicks: Path | None = None,
    plan: Plan | None = None,
    settings: Settings | None = None,
) -> str:
    """Fine-tune a cross-encoder on a store's judged queries; keep it where it wins on queries that were held out.

    Args:
        into: Folder for the model; one that is there is replaced where the new one beats the settings' reranker.
        queries: Queries: BEIR's jsonl, TREC topics, or id<TAB>text.
        qrels: Judgements of them: TREC qrels or BEIR's TSV.
        clicks: In their place: a line query<TAB>document for each click on a hit.
        plan: How to train; the defaults of `headrace train-reranker` where none is given.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    with run_log():
        judged = read_clicks(clicks) if clicks else read_judged(queries, qrels)
        outcome = fine_tune(judged, into, settings or Settings(), plan or Plan(), _log_progress)
        logger.info("trained verdict=%s", outcome.verdict)
    create_markdown_artifact(outcome.card, key="reranker-card", description=outcome.verdict)
    return outcome.verdict


def _log_progress(stage: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        logger.info("progress stage=%s done=%d total=%d", stage, done, total)

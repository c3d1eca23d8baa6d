"""The `evaluate` flow: measure a store on judged queries on a schedule, and fail where its answers got worse.

A run is compared with the best one so far, kept as a file of some kilobytes, not with a generation, which would have to
be kept as long. Only a run that is no worse takes its place: were the last run the baseline, a loss that chance could
explain would pass every night and nobody would see their sum, and a regression would be forgiven by the run after it.
To accept a lower level, remove the file.

Annotations are evaluated here: `serve` pickles a flow without the names that only its annotations would use.
"""

import logging
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.log import run_log
from flows.quality import evaluation_markdown, verdict
from flows.report import write_report
from schemas.errors import Regression
from schemas.settings import Settings
from tasks.evaluate import evaluation
from tasks.evaluate.comparison import compared
from tasks.evaluate.judged import read_judged
from tasks.evaluate.sweep import sweep

logger = logging.getLogger(__name__)


@flow(name="evaluate")
def evaluate_flow(
    queries: Path,
    qrels: Path,
    baseline: Path,
    report: Path,
    with_sweep: bool = False,
    settings: Settings | None = None,
) -> str:
    """Measure a store on judged queries; fail where its answers are significantly worse than the best so far.

    Args:
        queries: Queries: BEIR's jsonl, TREC topics, or id<TAB>text.
        qrels: Judgements: TREC qrels or BEIR's TSV.
        baseline: File that keeps the best evaluation so far; the first run makes it, who removes it accepts the next.
        report: HTML file to write; it is written before the run fails.
        with_sweep: Try fusion methods and pool sizes too, for the report; takes some times as long.
        settings: Settings to use; those of the environment and headrace.toml where none are given.
    """
    used = settings or Settings()
    with run_log():
        return _evaluate(queries, qrels, baseline, report, with_sweep, used)


def _evaluate(queries: Path, qrels: Path, baseline: Path, report: Path, with_sweep: bool, used: Settings) -> str:
    judged = read_judged(queries, qrels)
    now = evaluation.evaluate(judged, used)
    comparison = compared(evaluation.read(baseline), now) if baseline.exists() else None
    found = verdict(now, comparison)
    logger.info("evaluated store=%s verdict=%s", used.store, found)
    write_report(report, now, comparison, sweep(judged, used) if with_sweep else None)
    create_markdown_artifact(evaluation_markdown(now, comparison, report), key="evaluate-summary", description=found)
    if comparison is None or comparison.headline.mean >= 0:
        evaluation.write(baseline, now)
    if comparison is not None and comparison.regressed:
        raise Regression(f"{found}; see {report}, and to accept this level remove {baseline}")
    return found

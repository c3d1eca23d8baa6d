"""Metrics of runs, with 95 % bootstrap intervals, and paired tests between them.

nDCG@10 has linear gains (Järvelin & Kekäläinen 2002); the metrics are ir-measures', which are trec_eval's.
"""

from __future__ import annotations

from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, P, R, nDCG
from scipy.stats import bootstrap, permutation_test

from tasks.evaluate.judged import Judged
from tasks.evaluate.runs import Run

MEASURES = {"nDCG@10": nDCG @ 10, "MRR@10": RR @ 10, "P@5": P @ 5, "R@10": R @ 10, "R@50": R @ 50, "R@100": R @ 100}
HEADLINE = "nDCG@10"
# A difference is significant where chance would give one as large less often than this.
SIGNIFICANT = 0.05
RESAMPLES = 5_000
SEED = 7  # the same runs give the same intervals


@dataclass(frozen=True)
class Score:
    """A metric over all queries."""

    mean: float
    low: float  # of the 95 % interval
    high: float
    values: dict[str, float]  # query id → value


Scores = dict[str, dict[str, Score]]  # stage → metric → score


@dataclass(frozen=True)
class Difference:
    """How two runs of the same queries differ in a metric."""

    mean: float  # second minus first
    p: float  # two-sided, of a paired randomisation test

    @property
    def significant(self) -> bool:
        """Whether it is hardly chance."""
        return self.p < SIGNIFICANT


def measure(judged: Judged, run: Run) -> dict[str, Score]:
    """Every metric of MEASURES; a query without an answer counts 0."""
    return {name: _score(by_query) for name, by_query in values(judged, run).items()}


def values(judged: Judged, run: Run) -> dict[str, dict[str, float]]:
    """Metric → query id → value."""
    qrels = {query: {name: max(gain, 0) for name, gain in gains.items()} for query, gains in judged.gains.items()}
    scored = {query: {name: -float(place) for place, name in enumerate(names)} for query, names in run.items()}
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(judged.queries, 0.0) for name in MEASURES}
    names = {str(measure): name for name, measure in MEASURES.items()}
    for metric in ir_measures.iter_calc(list(MEASURES.values()), qrels, scored):
        found[names[str(metric.measure)]][metric.query_id] = metric.value
    return found


def compare(first: Score, second: Score) -> Difference:
    """Paired over the queries of `first`; Smucker, Allan & Carterette 2007 on why randomisation."""
    before = np.array([first.values[query] for query in first.values])
    after = np.array([second.values[query] for query in first.values])
    difference = float((after - before).mean())
    if len(before) < 2 or not np.any(after != before):  # nothing to tell from chance
        return Difference(difference, 1.0)
    result = permutation_test(
        (after, before),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return Difference(difference, float(result.pvalue))


def p_value(change: Difference) -> str:
    """For example: `p = 0.021`, or `p < 0.001`."""
    return "p < 0.001" if change.p < 0.001 else f"p = {change.p:.3f}"


def _score(by_query: dict[str, float]) -> Score:
    values = np.array(list(by_query.values()))
    mean = float(values.mean())
    if len(values) < 2 or np.all(values == values[0]):
        return Score(mean, mean, mean, by_query)
    interval = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(SEED)
    ).confidence_interval
    return Score(mean, float(interval.low), float(interval.high), by_query)

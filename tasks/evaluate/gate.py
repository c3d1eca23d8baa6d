"""A gate: a generation is published only where it answers judged queries no worse than the one before.

In: judged queries, the newest generation, and a candidate that no manifest names yet. Out: what was measured, or
Regression. The test is that of `headrace evaluate --baseline`: nDCG@10 of the final order, paired over the queries.
Each generation is held against the one before, so a decay in steps too small to be significant passes step by step; the
flow `evaluate`, whose baseline is the best so far, notices it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from schemas.errors import BadJudgements, Regression
from schemas.settings import Settings
from tasks.evaluate.comparison import Comparison, compared
from tasks.evaluate.evaluation import evaluate
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import HEADLINE, p_value
from tasks.search import rank
from tasks.store.generation import Generation
from tasks.store.reader import Reader
from tasks.store.writer import Gate

logger = logging.getLogger(__name__)

# With fewer queries no difference is significant: five that are all worse have p = 2 / 2**5 = 0.06.
FEWEST = 6

# Queries that a refusal names.
NAMED = 5

Report = Callable[[str, int, int], None]  # stage, done, total


def open_gate(judged: Judged, before: Settings, after: Settings, report: Report) -> Gate:
    """A gate that asks the newest generation with the settings `before`, a candidate with `after`.

    What would keep it from deciding is found now, not after hours of embedding. Raises BadJudgements, ModelMismatch,
    ModelNotFound.
    """
    if len(judged.queries) < FEWEST:
        raise BadJudgements(
            f"{after.gate} judges {len(judged.queries)} queries; a gate needs {FEWEST} at least, and some fifty to "
            f'notice what is no disaster. Judge more with: headrace golden add "a question" --into {after.gate}'
        )
    with Reader.open(before.store) as reader:
        rank(next(iter(judged.queries.values())), before, reader=reader)

    def decide(base: Generation, candidate: Generation) -> str:
        total = 2 * len(judged.queries)
        with Reader(before.store, base) as reader:
            old = evaluate(judged, before, reader=reader, report=lambda done, _: report("gate", done, total))
        with Reader(after.store, candidate) as reader:
            new = evaluate(judged, after, reader=reader, report=lambda done, n: report("gate", n + done, total))
        if len(old.missing) == len(new.missing) == len(judged.names):
            raise BadJudgements(
                f"{after.gate} judges nothing that {after.store} holds, such as {new.missing[0]}: is it of another "
                "corpus? Nothing was published; without the gate: --set gate="
            )
        comparison = compared(old, new)
        if comparison.regressed:
            raise Regression(_refusal(comparison))
        logger.info("gate passed store=%s generation=%d %s", after.store, candidate.number, _measured(comparison))
        return _measured(comparison)

    return decide


def _measured(comparison: Comparison) -> str:
    change = comparison.stages["rerank"]
    return f"{HEADLINE} {change.before:.3f} → {change.after:.3f}"


def _refusal(comparison: Comparison) -> str:
    before, after = comparison.before, comparison.after
    gone = sorted(set(after.missing) - set(before.missing))
    return "\n".join(
        [
            f"not published, generation {before.generation} stays: the new one answers worse, {_measured(comparison)} "
            f"over {len(comparison.queries)} judged queries ({p_value(comparison.headline)})",
            *(
                f"  {before.values[query]:.2f} → {after.values[query]:.2f}  {after.judged.queries[query]}"
                for query in comparison.worse[:NAMED]
            ),
            *([f"{len(gone)} judged names are not in it any more, such as {gone[0]}"] if gone else []),
            "What was parsed and embedded is kept. Put right what made it worse and run again; or publish it all the "
            f"same with --set gate=, look closer with headrace evaluate --baseline {before.generation}, and go back "
            f"with headrace rollback {before.generation}",
        ]
    )

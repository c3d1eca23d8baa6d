"""Two evaluations side by side: what differs beyond chance, and which queries changed most.

Queries are compared where both have the same text and the same judgements, so a judged set may grow from one evaluation
to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.errors import BadEvaluation
from tasks.evaluate.evaluation import Evaluation
from tasks.evaluate.metrics import HEADLINE, Difference, Score, compare
from tasks.evaluate.runs import STAGES

# Of the queries that changed most so many are shown, on each side.
SHOWN = 10


@dataclass(frozen=True)
class Change:
    """nDCG@10 of one stage, before and after."""

    before: float  # mean over the queries that are compared
    after: float
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """How `after` differs from `before`."""

    before: Evaluation
    after: Evaluation
    queries: tuple[str, ...]  # ids of those that are compared, from the one that lost most to the one that gained most
    stages: dict[str, Change]

    @property
    def headline(self) -> Difference:
        """By how much the final order changed."""
        return self.stages["rerank"].difference

    @property
    def regressed(self) -> bool:
        """Whether the final order got significantly worse."""
        return self.headline.significant and self.headline.mean < 0

    @property
    def baseline(self) -> str:
        """What was different before; for example `generation 3 of 2026-11-20T05:00:12+00:00, pool 50`."""
        now = self.after.conditions
        changed = [
            f"{name} {value}"
            for name, value in self.before.conditions.items()
            if name not in {"documents", "chunks"} and now.get(name) != value
        ]
        return ", ".join(changed) or "the same store and settings"

    def gain(self, query: str) -> float:
        """What a query gained in nDCG@10; negative where it lost."""
        return self.after.values[query] - self.before.values[query]

    @property
    def worse(self) -> list[str]:
        """The queries that lost, the worst first."""
        return [query for query in self.queries if self.gain(query) < 0]

    @property
    def better(self) -> list[str]:
        """The queries that gained, the best first."""
        return [query for query in self.queries[::-1] if self.gain(query) > 0]


def compared(before: Evaluation, after: Evaluation) -> Comparison:
    """Compare what can be compared. Raises BadEvaluation where no query can."""
    same = [query for query in after.judged.queries if _asked(after, query) == _asked(before, query)]
    if not same:
        raise BadEvaluation(
            f"the evaluation of {before.created} has no query in common with this one, text and judgements the same; "
            "measure the baseline again"
        )

    def change(stage: str) -> Change:
        old, new = (_narrowed(evaluation.scores[stage][HEADLINE], same) for evaluation in (before, after))
        return Change(old.mean, new.mean, compare(old, new))

    return Comparison(
        before=before,
        after=after,
        queries=tuple(sorted(same, key=lambda query: after.values[query] - before.values[query])),
        stages={stage: change(stage) for stage in STAGES},
    )


def _asked(evaluation: Evaluation, query: str) -> tuple[str | None, dict[str, int] | None]:
    return evaluation.judged.queries.get(query), evaluation.judged.gains.get(query)


def _narrowed(score: Score, queries: list[str]) -> Score:
    """`score` over some of its queries; its interval stays that of all."""
    values = {query: score.values[query] for query in queries}
    return replace(score, mean=sum(values.values()) / len(values), values=values)

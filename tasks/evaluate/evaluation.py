"""One evaluation of a store as plain data: what was measured, how well each stage did, and what each query found.

In: judged queries and settings. Out: an Evaluation, which the tables, the report and the comparison read. Kept as JSON,
it is a baseline for a later one, when the generation that it measured is long gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pydantic

from schemas.errors import BadEvaluation
from schemas.settings import Settings
from tasks.evaluate.candidates import Asked, ask
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import HEADLINE, Difference, Scores, compare, measure
from tasks.evaluate.runs import STAGES, Answer, Runs, runs_of
from tasks.store.files import write_text
from tasks.store.reader import Reader

# So many of a query's first answers are kept: those that nDCG@10 sees.
FIRST = 10

# What each stage is measured against: (stage, the stage above it).
STEPS = (("fusion", "bm25"), ("fusion", "vectors"), ("rerank", "fusion"))

Places = dict[str, int]  # stage → place, 1-based; absent where the stage did not find it


@dataclass(frozen=True)
class Evaluation:
    """What judged queries say about a store."""

    created: str  # ISO 8601, UTC
    store: str
    generation: int
    reranker: str
    conditions: dict[str, str]  # what decides the answers: the store, its index and the settings of a query
    judged: Judged
    scores: Scores
    answers: dict[str, tuple[Answer, ...]]  # query id → the first of the final order
    places: dict[str, dict[str, Places]]  # query id → relevant name → where each stage put it
    missing: tuple[str, ...]  # judged names that the store does not hold at all
    seconds: dict[str, float]  # mean of a query, a step each
    # why a wanted reranker did not run, or not over the whole pool → for how many queries
    fallbacks: dict[str, int] = field(default_factory=dict)

    @property
    def steps(self) -> dict[tuple[str, str], Difference]:
        """What each stage adds to the one above it."""
        return {
            (stage, above): compare(self.scores[above][HEADLINE], self.scores[stage][HEADLINE])
            for stage, above in STEPS
        }

    @property
    def values(self) -> dict[str, float]:
        """The final order's nDCG@10 by query id."""
        return self.scores["rerank"][HEADLINE].values

    @property
    def worst(self) -> list[str]:
        """The queries, the worst answered first."""
        return sorted(self.values, key=self.values.__getitem__)


def evaluate(
    judged: Judged,
    settings: Settings,
    *,
    reader: Reader | None = None,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Evaluation:
    """Ask and measure the newest generation, or that of `reader`. Errors as of tasks.search.search."""
    return measured(judged, ask(judged, settings, reader=reader, report=report))


def measured(judged: Judged, asked: Asked) -> Evaluation:
    """Measure what was asked, now or when it was saved, by those of the judged queries that it has.

    Raises BadEvaluation where it has none.
    """
    texts = set(asked.origin.queries)
    queries = {query: text for query, text in judged.queries.items() if text in texts}
    if not queries:
        raise BadEvaluation("the saved run has none of the judged queries; a query is known by its text")
    judged = Judged(queries, {query: judged.gains[query] for query in queries})
    runs, origin = runs_of(judged, asked.candidates), asked.origin
    return Evaluation(
        created=origin.created,
        store=origin.store,
        generation=origin.generation,
        reranker=origin.reranker,
        conditions=origin.conditions,
        judged=judged,
        scores={stage: measure(judged, runs.stages[stage]) for stage in STAGES},
        answers={query: tuple(found[:FIRST]) for query, found in runs.answers.items()},
        places={query: _places(runs, query, gains) for query, gains in judged.gains.items()},
        missing=tuple(name for name in origin.missing if name in judged.names),
        seconds=origin.seconds,
        fallbacks=origin.fallbacks,
    )


def write(path: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _JSON.dump_json(evaluation).decode())


def read(path: Path) -> Evaluation:
    """An evaluation that was kept. Raises BadEvaluation."""
    try:
        return _JSON.validate_json(path.read_bytes())
    except OSError as error:
        raise BadEvaluation(f"{path} cannot be read: {error}") from error
    except pydantic.ValidationError as error:
        raise BadEvaluation(
            f"{path} is not an evaluation that this Headrace kept ({error.error_count()} problems); measure it again "
            "with: headrace evaluate --save FILE"
        ) from error


_JSON = pydantic.TypeAdapter(Evaluation)


def _places(runs: Runs, query: str, gains: dict[str, int]) -> dict[str, Places]:
    orders = {stage: {name: i for i, name in enumerate(runs.stages[stage][query], start=1)} for stage in STAGES}
    return {
        name: {stage: order[name] for stage, order in orders.items() if name in order}
        for name, gain in sorted(gains.items(), key=lambda item: -item[1])
        if gain > 0
    }

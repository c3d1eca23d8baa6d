"""Ask a store some queries and write down every candidate, with its rank and score at every stage.

In: queries and settings. Out: an Asked, which is measured at once or kept as one Parquet file: CANDIDATES, of a cascade
with rank and score of its first stages too (`rerank_1_rank`, …), and in the file's metadata what they came of. A saved
run needs no store to be measured again, by other judgements too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from schemas.errors import BadEvaluation
from schemas.records import CANDIDATES, with_rerankers
from schemas.reranking import stage_names
from schemas.settings import Settings
from tasks.evaluate.judged import Judged
from tasks.evaluate.runs import Namer
from tasks.search import Ranking, rank, stage_columns, stage_scores
from tasks.store.files import publish_file
from tasks.store.generation import Generation
from tasks.store.reader import ChunkRef, Reader

# The settings that decide what a query finds in a store that is there.
QUERY_SETTINGS = (
    "candidates", "title_weight", "headings_weight", "text_weight", "identifier_weight", "rrf_k",
    "vector_weight", "pool", "rerank_precision", "rerank_fields", "rerank_tokens", "rerank_llm", "deadline_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """What candidates came of."""

    created: str  # ISO 8601, UTC
    store: str
    generation: int
    reranker: str
    conditions: dict[str, str]  # what decides the answers: the store, its index and the settings of a query
    queries: tuple[str, ...]  # the texts that were asked, of those without a candidate too
    missing: tuple[str, ...]  # judged names that the store does not hold at all
    seconds: dict[str, float]  # mean of a query, a step each
    # why a wanted reranker did not run, or not over the whole pool → for how many queries
    fallbacks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What some queries found."""

    candidates: pa.Table  # CANDIDATES, and the first stages of a cascade
    origin: Origin


def ask(
    judged: Judged,
    settings: Settings,
    *,
    reader: Reader | None = None,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Asked:
    """Ask every query of `judged` of the newest generation, or that of `reader`. Errors as of tasks.search.search."""
    batches: list[pa.RecordBatch] = []
    seconds: dict[str, float] = {}
    ranking: Ranking | None = None
    rerankers: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()
    for done, (query, text) in enumerate(judged.queries.items(), start=1):
        ranking = rank(text, settings, reader=reader)
        batches.append(_batch(ranking, text, query, settings))
        rerankers[ranking.reranker] += 1
        if ranking.fallback:
            fallbacks[ranking.fallback] += 1
        for step, took in ranking.timings_ms.items():
            seconds[step] = seconds.get(step, 0.0) + took / 1000 / len(judged.queries)
        report(done, len(judged.queries))
    assert ranking is not None  # a judged set holds a query
    documents = ranking.reader.documents().select(["doc_id", "uri", "path"]).to_pylist()
    missing = tuple(sorted(judged.names - Namer(judged.names).held(documents)))
    queries = tuple(judged.queries.values())
    origin = _origin(ranking, who_ordered(rerankers), settings, queries, missing, seconds, fallbacks)
    return Asked(pa.Table.from_batches(batches), origin)


def asked_once(query: str, ranking: Ranking, settings: Settings) -> Asked:
    """The candidates of one query that nobody judged."""
    seconds = {step: took / 1000 for step, took in ranking.timings_ms.items()}
    fallbacks = {ranking.fallback: 1} if ranking.fallback else {}
    origin = _origin(ranking, ranking.reranker, settings, (query,), (), seconds, fallbacks)
    return Asked(pa.Table.from_batches([_batch(ranking, query, None, settings)]), origin)


def who_ordered(queries: Counter[str]) -> str:
    """The reranker of all queries; where it failed for some, whose order each got how often."""
    if len(queries) == 1:
        return next(iter(queries))
    return ", ".join(f"{reranker} ({count} queries)" for reranker, count in queries.most_common())


def write(path: Path, asked: Asked) -> None:
    """Save a run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    pq.write_table(asked.candidates.replace_schema_metadata({_KEY: _JSON.dump_json(asked.origin)}), aside)
    publish_file(aside, path)


def read(path: Path) -> Asked:
    """A saved run. Raises BadEvaluation."""
    try:
        table = pq.read_table(path)
        origin = _JSON.validate_json((table.schema.metadata or {})[_KEY])
    except (OSError, pa.ArrowException) as error:
        raise BadEvaluation(f"{path} cannot be read: {error}") from error
    except (KeyError, pydantic.ValidationError) as error:
        raise BadEvaluation(
            f"{path} is not a run that this Headrace saved; save it again with: headrace evaluate --save-run FILE"
        ) from error
    return Asked(table, origin)


_KEY = b"headrace"
_JSON = pydantic.TypeAdapter(Origin)


def places(reader: Reader, refs: Sequence[ChunkRef]) -> dict[ChunkRef, dict[str, str]]:
    """chunk_id, doc_id, uri, path and headings of each of `refs`."""
    rows = reader.lookup(refs)
    named = {ref: {name: row[name] for name in ("chunk_id", "uri", "path", "headings")} for ref, row in rows.items()}
    return {ref: row | {"doc_id": row["chunk_id"].rpartition("/")[0]} for ref, row in named.items()}


def _batch(ranking: Ranking, query: str, query_id: str | None, settings: Settings) -> pa.RecordBatch:
    """Rows of CANDIDATES, in the order of fusion, which has them all."""
    schema = with_rerankers(CANDIDATES, len(stage_names(settings.reranker)) - 1)
    refs = [ref for ref, _ in ranking.stages["fusion"]]
    stages, named = stage_scores(ranking.stages), places(ranking.reader, refs)
    rows = [{"query_id": query_id, "query": query, **named[ref], **stage_columns(stages[ref])} for ref in refs]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _origin(
    ranking: Ranking,
    reranker: str,
    settings: Settings,
    queries: tuple[str, ...],
    missing: tuple[str, ...],
    seconds: dict[str, float],
    fallbacks: dict[str, int],
) -> Origin:
    generation = ranking.reader.generation
    return Origin(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        store=str(settings.store.absolute()),
        generation=generation.number,
        reranker=reranker,
        conditions=_conditions(generation, settings) | {"reranker": reranker},
        queries=queries,
        missing=missing,
        seconds=seconds,
        fallbacks=fallbacks,
    )


def _conditions(generation: Generation, settings: Settings) -> dict[str, str]:
    analyzer = generation.analyzer
    values = {
        "store": str(settings.store.absolute()),
        "generation": f"{generation.number} of {generation.created}",
        "documents": f"{generation.documents:,}",
        "chunks": f"{generation.chunks:,}",
        "embedder": generation.embedder,
        "terms": f"tokenizer {analyzer.tokenizer}, stemmer {analyzer.stemmer}, stopwords {analyzer.stopwords}",
    }
    return values | {name: _text(getattr(settings, name)) for name in QUERY_SETTINGS}


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

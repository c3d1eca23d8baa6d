"""Turn judged queries into lists to train a reranker on: passages that search finds for them, relevant or not.

In: judged queries and a store. Out: LISTS, a row a query whose pool holds something relevant. The negatives are hard:
what BM25 and vectors found too and nobody judged relevant, those first that somebody judged not to be.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pyarrow as pa

from schemas.records import LISTS
from schemas.settings import Settings
from tasks.evaluate.candidates import places
from tasks.evaluate.judged import Judged
from tasks.evaluate.runs import Namer
from tasks.passages import passages
from tasks.search import Ranking, rank
from tasks.store.reader import ChunkRef

# Of a query's relevant documents a list holds this many, those that fusion has first. One list a query is enough where
# there are many queries: the others teach the same.
POSITIVES = 2
# Negatives are drawn from so many times as many of fusion's best: among the very best are those that answer too and
# nobody judged, and what is far below teaches nothing.
DEPTH = 4
SEED = 7  # the same store and judgements give the same lists


def mine(
    judged: Judged,
    settings: Settings,
    *,
    negatives: int,
    most: int = 1,
    report: Callable[[int, int], None] = lambda *_: None,
) -> pa.Table:
    """LISTS of `judged`, at most so many a query, with up to so many negatives each. Errors as of tasks.search."""
    fused = settings.model_copy(update={"reranker": "fusion", "deadline_ms": None})
    namer, chance = Namer(judged.names), random.Random(SEED)
    rows = []
    for done, (query, text) in enumerate(judged.queries.items(), start=1):
        ranking = rank(text, fused)
        gains = _gains(ranking, judged.gains[query], namer)
        relevant = [ref for ref, gain in gains.items() if gain is not None and gain > 0]
        scores = dict(ranking.stages["rerank"])
        for at in range(0, min(len(relevant), most * POSITIVES), POSITIVES):
            chosen = relevant[at : at + POSITIVES] + _negatives(ranking, gains, negatives, chance)
            rows.append(
                {
                    "query": text,
                    "passages": passages(ranking.reader, chosen, settings),
                    "gains": [max(gains.get(ref) or 0, 0) for ref in chosen],
                    "fusion": [scores[ref] for ref in chosen],
                }
            )
        report(done, len(judged.queries))
    return pa.Table.from_pylist(rows, schema=LISTS)


def _gains(ranking: Ranking, judged: dict[str, int], namer: Namer) -> dict[ChunkRef, int | None]:
    """What was judged of each of the pool, best first; None of another chunk of what is there already: who knows."""
    refs = [ref for ref, _ in ranking.stages["rerank"]]
    rows = places(ranking.reader, refs)
    gains: dict[ChunkRef, int | None] = {}
    seen = set()
    for ref in refs:
        name = namer.name(rows[ref])
        if name in judged:
            gains[ref] = None if name in seen else judged[name]
            seen.add(name)
    return gains


def _negatives(
    ranking: Ranking, gains: dict[ChunkRef, int | None], negatives: int, chance: random.Random
) -> list[ChunkRef]:
    refused = [ref for ref, gain in gains.items() if gain is not None and gain <= 0]
    others = [ref for ref, _ in ranking.stages["rerank"] if ref not in gains][: DEPTH * negatives]
    chance.shuffle(others)
    return (refused + others)[:negatives]

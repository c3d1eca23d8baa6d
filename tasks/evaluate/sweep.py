"""What would other settings give? Fusion methods and pool sizes, tried on the candidates of one pass over the queries.

In: judged queries and a store. Out: nDCG@10 and recall by fusion method, and for the settings' own fusion by pool size:
what the pool holds (recall, and the nDCG@10 of its best order), what the reranker makes of it, and how long it takes.
All pools are ordered by the scores of the deepest, in which fusion's greatest score and like passages play a part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schemas.errors import BadEvaluation
from schemas.reranking import stage_names
from schemas.settings import Settings
from tasks.evaluate.candidates import places, who_ordered
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import Score, compare, measure
from tasks.evaluate.runs import Namer, Run
from tasks.fuse import Scale, by_deviation, by_maximum, by_range, reciprocal_rank_fusion, weighted_scores
from tasks.models import load_encoder
from tasks.search import Ranking, Scored, complete_scores, rank
from tasks.store.reader import ChunkRef

POOLS = (5, 10, 20, 35, 50, 75, 100, 150, 200)
RRF_KS = (5, 10, 20, 60, 120)
VECTOR_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# A reranker that gains less is not worth its time.
WORTH = 0.03
# The knee: the smallest pool that gives this share of the best nDCG@10.
KNEE = 0.99


@dataclass(frozen=True)
class Candidates:
    """What BM25 and the vectors found for a query."""

    lexical: list[ChunkRef]  # best first
    semantic: list[ChunkRef]
    union: list[ChunkRef]
    scores: tuple[list[float], list[float]]  # the cosine and BM25 of all of the union


Fuse = Callable[[Candidates], list[ChunkRef]]


@dataclass(frozen=True)
class Method:
    """A way to fuse, and what it gives."""

    name: str
    ndcg: Score
    recall: dict[int, float]  # depth → mean share of the relevant names found so deep


@dataclass(frozen=True)
class Pool:
    """A pool size, and what it gives."""

    size: int
    recall: float
    ceiling: float  # nDCG@10 of the best order of the pool
    ndcg: Score  # of the reranker's order
    milliseconds: float  # of reranking, mean


@dataclass(frozen=True)
class Sweep:
    """What was tried."""

    methods: tuple[Method, ...]
    fused: Score  # the settings' own fusion, not reranked
    pools: tuple[Pool, ...]
    knee: int
    reranker: str

    @property
    def verdict(self) -> list[str]:
        """What the figures say, plainly."""
        best = next(pool for pool in self.pools if pool.size == self.knee)
        change = compare(self.fused, best.ndcg)
        gain = change.mean / self.fused.mean if self.fused.mean else 0.0
        said = [f"a pool of {self.knee} gives {KNEE:.0%} of the best nDCG@10"]
        if gain < WORTH:
            said.append(
                f"the reranker gains {gain:+.1%} over fusion, under {WORTH:.0%}: it is too weak for this corpus, or of "
                "another domain, or the pool lacks the answers"
            )
        else:
            said.append(f"the reranker gains {gain:+.1%} over fusion (p = {change.p:.3f})")
        lost_before, lost_in_order = 1 - best.ceiling, best.ceiling - best.ndcg.mean
        if lost_before > lost_in_order:
            said.append(f"recall is the limit: the best order of that pool has nDCG@10 {best.ceiling:.3f}")
        else:
            said.append(
                f"order is the limit: the pool could give {best.ceiling:.3f}, the reranker {best.ndcg.mean:.3f}"
            )
        return said


def sweep(judged: Judged, settings: Settings, report: Callable[[int, int], None] = lambda *_: None) -> Sweep:
    """Try everything. Errors as of tasks.search.search, and BadEvaluation where the settings fix the pool."""
    stages = stage_names(settings.reranker)
    if len(stages) > 1 or stages[0].pool is not None:
        raise BadEvaluation(f"a sweep tries pools, and {settings.reranker} fixes them; name one reranker without @POOL")
    deepest = max(POOLS)
    settings = settings.model_copy(update={"deadline_ms": None})  # what a pool takes is what is asked
    wide = settings.model_copy(update={"candidates": max(settings.candidates, deepest), "pool": deepest})
    first: dict[str, Candidates] = {}
    fused: dict[str, Scored] = {}
    reranked: dict[str, dict[ChunkRef, float]] = {}
    named_as: dict[ChunkRef, dict[str, str]] = {}
    rerankers: Counter[str] = Counter()
    for done, (query, text) in enumerate(judged.queries.items(), start=1):
        ranking = rank(text, wide)
        first[query] = _candidates(text, ranking, wide)
        fused[query] = ranking.stages["fusion"]
        reranked[query] = dict(ranking.stages["rerank"])
        rerankers[ranking.reranker] += 1
        named_as |= places(ranking.reader, first[query].union)
        report(done, len(judged.queries))
    namer = Namer(judged.names)

    def named(lists: dict[str, list[ChunkRef]]) -> Run:
        return {
            query: [answer.name for answer in namer.answers(named_as[ref] for ref in refs)]
            for query, refs in lists.items()
        }

    methods = []
    for name, fuse in _methods():
        scores = measure(judged, named({query: fuse(found) for query, found in first.items()}))
        methods.append(Method(name, scores["nDCG@10"], {depth: scores[f"R@{depth}"].mean for depth in (10, 50, 100)}))

    pools = []
    for size in POOLS:
        refs = {query: [ref for ref, _ in scored[:size]] for query, scored in fused.items()}
        order = {query: sorted(found, key=lambda ref: -reranked[query][ref]) for query, found in refs.items()}
        held = named(refs)
        ideal = {
            query: sorted(names, key=lambda name: -judged.gains[query].get(name, 0)) for query, names in held.items()
        }
        pools.append(
            Pool(
                size,
                _recall(judged, held),
                measure(judged, ideal)["nDCG@10"].mean,
                measure(judged, named(order))["nDCG@10"],
                _rerank_ms(judged, settings, size),
            )
        )
    best = max(pool.ndcg.mean for pool in pools)
    return Sweep(
        methods=tuple(methods),
        fused=measure(judged, named({query: [ref for ref, _ in scored] for query, scored in fused.items()}))["nDCG@10"],
        pools=tuple(pools),
        knee=next(pool.size for pool in pools if pool.ndcg.mean >= KNEE * best),
        reranker=who_ordered(rerankers),
    )


def _candidates(text: str, ranking: Ranking, settings: Settings) -> Candidates:
    lexical, semantic = ([ref for ref, _ in ranking.stages[stage]] for stage in ("bm25", "vectors"))
    union = list(dict.fromkeys([*lexical, *semantic]))
    vector = load_encoder(settings, ranking.reader.generation.embedder).encode([text])[0]
    return Candidates(lexical, semantic, union, complete_scores(ranking.reader, text, vector, union, settings))


def _methods() -> Iterator[tuple[str, Fuse]]:
    yield "BM25 alone", lambda found: found.lexical
    yield "vectors alone", lambda found: found.semantic

    def by_rank(k: int, weight: float) -> Fuse:
        weights = [2 * (1 - weight), 2 * weight]
        return lambda found: [ref for ref, _ in reciprocal_rank_fusion([found.lexical, found.semantic], k, weights)]

    def by_scores(scale: Scale, weight: float) -> Fuse:
        def fuse(found: Candidates) -> list[ChunkRef]:
            scores = weighted_scores(*found.scores, weight, scale).tolist()
            return [ref for ref, _ in sorted(zip(found.union, scores, strict=True), key=lambda item: -item[1])]

        return fuse

    for k in RRF_KS:
        yield f"RRF, k = {k}", by_rank(k, 0.5)
    for weight in VECTOR_WEIGHTS:
        yield f"RRF, k = 60, vectors {weight:g}", by_rank(60, weight)
    for name, scale in (("maximum", by_maximum), ("min-max", by_range), ("z-score", by_deviation)):
        for weight in VECTOR_WEIGHTS:
            yield f"scores, {name}, vectors {weight:g}", by_scores(scale, weight)


def _recall(judged: Judged, run: Run) -> float:
    """Mean share of the relevant names that a run holds at all."""
    shares = []
    for query, gains in judged.gains.items():
        relevant = {name for name, gain in gains.items() if gain > 0}
        shares.append(len(relevant & set(run.get(query, []))) / len(relevant))
    return sum(shares) / len(shares)


def _rerank_ms(judged: Judged, settings: Settings, size: int, queries: int = 5) -> float:
    """Time of the rerank stage alone with a pool of `size`: the median of some queries."""
    narrow = settings.model_copy(update={"candidates": max(settings.candidates, size), "pool": size})
    times = sorted(rank(text, narrow, k=1).timings_ms["rerank"] for text in list(judged.queries.values())[:queries])
    return times[len(times) // 2]

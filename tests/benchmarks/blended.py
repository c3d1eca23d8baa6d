"""Which weights the final order should take beside a reranker's score: `python -m tests.benchmarks.blended [RERANKER]`.

Scores the pools of every judged collection once, then prints, for each pair of weights (tasks.blend) and for other
numbers of neighbours, the mean relative change of nDCG@10 over fusion's order and the least of any collection. Weights
that are chosen on the queries they are measured on look better than they are: the last line chooses on half of the
queries of each collection, measures on the other half, and is the mean of a hundred such halvings. Without RERANKER the
bundled one. store=FOLDER keeps the stores there. Reads ../shared; some ten minutes.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import tasks.blend
from schemas.settings import Settings
from tasks.blend import NEIGHBOURS, Blend
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import HEADLINE, values
from tasks.evaluate.runs import Namer
from tasks.rerank import load_cascade
from tasks.store.generation import exists
from tasks.training.weigh import Pool, score_pools
from tests.benchmarks.quality import COLLECTIONS, STORES
from tests.benchmarks.reranked import NAMES

FUSION = (12.0, 14.0, 16.0, 18.0, 20.0, 24.0, 32.0)
SHARES = (0.0, 0.2, 0.3, 0.35, 0.4, 0.5)
COUNTS = (1, 2, 3, 4, 5, 8)
HALVINGS = 100

Pools = dict[str, tuple[Judged, dict[str, Pool]]]
Values = dict[str, np.ndarray]  # a collection's nDCG@10, float64[queries]


def ndcg(pools: Pools, blend: Blend) -> Values:
    """Of the order that `blend` gives."""
    found = {}
    for name, (judged, of) in pools.items():
        namer = Namer(judged.names)
        run = {query: [answer.name for answer in namer.answers(pool.ordered(blend))] for query, pool in of.items()}
        found[name] = np.array(list(values(judged, run)[HEADLINE].values()))
    return found


def gains(after: Values, before: Values, chosen: Values | None = None) -> np.ndarray:
    """Relative change of each collection's mean, float64[collections]; of the `chosen` queries, bool[queries]."""
    some = chosen or {name: np.ones(len(found), dtype=bool) for name, found in before.items()}
    return np.array([after[name][some[name]].mean() / found[some[name]].mean() - 1 for name, found in before.items()])


def unseen(found: dict[Blend, Values], before: Values) -> float:
    """The mean gain on the queries that the weights were not chosen on."""
    drawn = np.random.default_rng(7)
    measured = []
    for _ in range(HALVINGS):
        half = {name: drawn.permutation(len(of)) % 2 == 0 for name, of in before.items()}
        best = max(found, key=lambda blend: gains(found[blend], before, half).mean())
        measured.append(gains(found[best], before, {name: ~some for name, some in half.items()}).mean())
    return float(np.mean(measured))


def shown(found: np.ndarray) -> str:
    """Mean and least of some gains."""
    return f"{found.mean():+.2%} ({found.min():+.1%})"


def scored(reranker: str, stores: Path) -> Pools:
    """The pools of every collection."""
    pools: Pools = {}
    for name in NAMES:
        collection = COLLECTIONS[name]()
        settings = Settings(store=stores / STORES.get(name, name), reranker=reranker)
        if not exists(settings.store):
            collection.build(settings)
        model = load_cascade(settings)[0].reranker
        if model is None:
            raise SystemExit("fusion takes no weights; name a reranker")
        pools[name] = collection.judged, score_pools(collection.judged, model, settings)
        Console(stderr=True).print(name)
    return pools


def main() -> None:
    """Print the tables."""
    chosen = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    reranker = next((argument for argument in sys.argv[1:] if "=" not in argument), "auto")
    with tempfile.TemporaryDirectory() as aside:
        pools = scored(reranker, Path(chosen.get("store", aside)))
    before = ndcg(pools, Blend(fusion=1e6))
    found = {Blend(*weights): ndcg(pools, Blend(*weights)) for weights in itertools.product(FUSION, SHARES)}
    table = Table("weight of fusion", *(f"share {share:g}" for share in SHARES), title="mean (least) change of nDCG@10")
    for weight in FUSION:
        table.add_row(f"{weight:g}", *(shown(gains(found[Blend(weight, share)], before)) for share in SHARES))
    best = max(found, key=lambda blend: gains(found[blend], before).mean())
    table.add_row("fusion alone", *(shown(gains(ndcg(pools, Blend(1e6, share)), before)) for share in SHARES))
    console = Console(width=130)
    console.print(table)
    for count in COUNTS:
        tasks.blend.NEIGHBOURS = count
        console.print(f"{count} neighbours, {best}: {shown(gains(ndcg(pools, best), before))}")
    tasks.blend.NEIGHBOURS = NEIGHBOURS
    console.print(f"chosen on half of the queries, measured on the other half: {unseen(found, before):+.2%}")


if __name__ == "__main__":
    main()

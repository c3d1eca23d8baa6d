"""What other defaults would give: `python -m tests.benchmarks.defaults [store=FOLDER]`.

nDCG@10 of the final order on every judged collection that defaults are tuned on (tests.benchmarks.quality says how each
is made), with one setting changed at a time. Settings of ingest are tried on the AWS guides alone: the others are whole
abstracts. Some ten minutes and, for the guides, five more a setting of ingest; store=FOLDER keeps the stores.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from schemas.settings import Settings
from tasks.evaluate.candidates import ask
from tasks.evaluate.metrics import HEADLINE, compare, measure
from tasks.evaluate.runs import runs_of
from tasks.store.generation import exists
from tests.benchmarks.quality import COLLECTIONS

TUNED_ON = ("cranfield", "scifact", "npl", "anthropic", "aws")
QUERY: list[dict[str, object]] = [
    {},
    *({"vector_weight": weight} for weight in (0.4, 0.5, 0.7, 0.8)),
    *({"pool": size} for size in (10, 20, 100)),
    *({"candidates": size} for size in (50, 200)),
    *({"rrf_k": k} for k in (10, 120)),
    *({"identifier_weight": weight} for weight in (1.0, 2.0, 8.0)),
    {"title_weight": 2.0},
    {"headings_weight": 2.0},
    {"title_weight": 2.0, "headings_weight": 2.0},
    {"title_weight": 0.5, "headings_weight": 0.5},
]
INGEST: list[dict[str, object]] = [
    {"chunk_tokens": 128, "chunk_min_tokens": 32},
    {"chunk_tokens": 240},
]


def main() -> None:
    """Print one table."""
    chosen = dict(argument.split("=") for argument in sys.argv[1:])
    console = Console(width=120)
    table = Table("changed", *TUNED_ON, "mean", "p, all queries")
    with tempfile.TemporaryDirectory() as aside:
        root = Path(chosen.get("store", aside))
        collections = {name: COLLECTIONS[name]() for name in TUNED_ON}
        before = None
        for changed in QUERY + INGEST:
            scores = {}
            for name in TUNED_ON if changed in QUERY else ("aws",):
                folder = name if changed in QUERY else f"{name}-{_said(changed)}"
                settings = Settings(**{"store": root / folder, "reranker": "fusion", **changed})  # type: ignore[arg-type]
                if not exists(settings.store):
                    collections[name].build(settings)
                judged = collections[name].judged
                order = runs_of(judged, ask(judged, settings).candidates).stages["rerank"]
                scores[name] = measure(judged, order)[HEADLINE]
            before = before or scores
            p = [f"{name} {compare(before[name], scores[name]).p:.2f}" for name in scores if scores is not before]
            cells = [f"{scores[name].mean:.3f}" if name in scores else "" for name in TUNED_ON]
            mean = sum(score.mean for score in scores.values()) / len(scores)
            table.add_row(_said(changed) or "nothing", *cells, f"{mean:.4f}" if len(scores) > 1 else "", ", ".join(p))
            console.print(_said(changed) or "nothing", cells)
    console.print(table)


def _said(changed: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in changed.items())


if __name__ == "__main__":
    main()

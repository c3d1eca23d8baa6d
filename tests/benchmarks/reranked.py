"""What a reranker adds to fusion's order on every judged collection: `python -m tests.benchmarks.reranked [RERANKER]`.

nDCG@10 with 95 % intervals, the change in per cent, and p of a paired randomisation test; without RERANKER the bundled
one. The collections are those of tests.benchmarks.quality; store=FOLDER keeps their stores there. Reads ../shared.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from schemas.settings import Settings
from tasks.evaluate.candidates import ask
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import HEADLINE, Score, compare, measure
from tasks.evaluate.runs import runs_of
from tasks.store.generation import exists
from tests.benchmarks.quality import COLLECTIONS, STORES

NAMES = ("cranfield", "scifact", "npl", "anthropic", "aws", "aws-report", "aws-qa")


def score(judged: Judged, settings: Settings) -> Score:
    """nDCG@10 of the final order."""
    return measure(judged, runs_of(judged, ask(judged, settings).candidates).stages["rerank"])[HEADLINE]


def main() -> None:
    """Print the table, a row as soon as it is known."""
    chosen = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    reranker = next((argument for argument in sys.argv[1:] if "=" not in argument), "auto")
    table = Table("", "queries", "fusion", reranker, "change", "p")
    gains = []
    with tempfile.TemporaryDirectory() as aside:
        for name in NAMES:
            collection = COLLECTIONS[name]()
            settings = Settings(store=Path(chosen.get("store", aside), STORES.get(name, name)), reranker="fusion")
            if not exists(settings.store):
                collection.build(settings)
            before = score(collection.judged, settings)
            after = score(collection.judged, settings.model_copy(update={"reranker": reranker}))
            gains.append(after.mean / before.mean - 1)
            table.add_row(
                name,
                str(len(before.values)),
                *(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in (before, after)),
                f"{gains[-1]:+.1%}",
                f"{compare(before, after).p:.3f}",
            )
            Console(stderr=True).print(f"{name} {gains[-1]:+.1%}")
    table.add_section()
    table.add_row("mean", "", "", "", f"{statistics.fmean(gains):+.1%}", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

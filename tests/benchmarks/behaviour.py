"""Does the reranker read what a question says? `python -m tests.benchmarks.behaviour [RERANKER …]`, a table.

Questions over the sample corpus of which each has a document that answers it and one on the same topic that does not:
tests/data/behaviour.tsv. A question counts as right where the first is above the second.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.local import local_refresh
from schemas.settings import Settings
from tasks.search import search

TESTS = Path(__file__).parents[1]


def right(settings: Settings) -> dict[str, list[bool]]:
    """Kind of difference → for each of its questions, whether the order is right."""
    found = defaultdict(list)
    with (TESTS / "data" / "behaviour.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            names = [Path(hit.path).name for hit in search(row["question"], settings, k=50).hits]
            places = [names.index(name) if name in names else len(names) for name in (row["wanted"], row["not"])]
            found[row["kind"]].append(places[0] < places[1])
    return found


def main() -> None:
    """Print how many are right, for fusion and the rerankers that are named or else the bundled one."""
    table = Table("", "questions", *(rerankers := ["fusion", *(sys.argv[1:] or ["auto"])]))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(store=Path(folder) / "store")
        local_refresh([str(TESTS / "corpus")], settings, lambda *_: None)
        found = [right(settings.model_copy(update={"reranker": reranker})) for reranker in rerankers]
    for kind, answers in found[0].items():
        table.add_row(kind, str(len(answers)), *(str(sum(each[kind])) for each in found))
    table.add_row("all", str(sum(map(len, found[0].values()))), *(str(sum(map(sum, each.values()))) for each in found))
    Console().print(table)


if __name__ == "__main__":
    main()

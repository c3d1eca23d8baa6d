"""A judged set of one's own, in two text files that version control shows well: queries.jsonl and qrels.tsv."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.records import Hit
from schemas.settings import Settings
from tasks.evaluate.judged import read_qrels, read_queries
from tasks.evaluate.runs import STAGES
from tasks.search import search

# Of each stage's order so many are shown to the judge.
POOLED = 10

Unit = Literal["document", "section", "chunk"]  # what is judged


@dataclass
class Golden:
    """Queries, and gains by query and what was judged."""

    queries: dict[str, str]
    gains: dict[str, dict[str, int]]

    @classmethod
    def read(cls, folder: Path) -> Golden:
        """What is in `folder`; nothing where there is none. Raises BadJudgements."""
        queries, qrels = folder / "queries.jsonl", folder / "qrels.tsv"
        return cls(
            read_queries(queries) if queries.is_file() else {},
            read_qrels(qrels) if qrels.is_file() else {},
        )

    def write(self, folder: Path) -> None:
        """Write both files, each whole or not at all, in an order that does not change."""
        folder.mkdir(parents=True, exist_ok=True)
        queries = [json.dumps({"_id": name, "text": text}, ensure_ascii=False) for name, text in self.queries.items()]
        qrels = [
            f"{query}\t0\t{document}\t{gain}"
            for query in self.queries
            for document, gain in sorted(self.gains.get(query, {}).items())
        ]
        for name, lines in (("queries.jsonl", queries), ("qrels.tsv", qrels)):
            aside = folder / f".{name}.tmp"
            aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            aside.replace(folder / name)

    def query_id(self, text: str) -> str:
        """The id of a question, a new one where it is new."""
        known = next((name for name, asked in self.queries.items() if asked == text), None)
        if known is None:
            known = f"q{1 + max((int(n[1:]) for n in self.queries if n[1:].isdigit()), default=0):03d}"
            self.queries[known] = text
        return known


def to_judge(text: str, settings: Settings, by: Unit, judged: set[str], pooled: int = POOLED) -> dict[str, Hit]:
    """The best chunk of everything that a stage has among its first `pooled`, by name, unless it is in `judged`.

    Pooled over all stages, so that the judgements favour none; in the order of the names, so that the judge cannot see
    who found what. Errors as of tasks.search.search.
    """
    best: dict[str, Hit] = {}
    hits = search(text, settings, k=settings.pool).hits
    for stage in STAGES:
        ordered = sorted((hit for hit in hits if stage in hit.stages), key=lambda hit: hit.stages[stage].rank)
        first: dict[str, Hit] = {}
        for hit in ordered:
            first.setdefault(name_of(hit, by), hit)
        for name in list(first)[:pooled]:
            best.setdefault(name, first[name])
    return {name: hit for name, hit in sorted(best.items()) if name not in judged}


def name_of(hit: Hit, by: Unit) -> str:
    """What a judgement names: the path, the path and the last heading, or the chunk of this version of the document."""
    if by == "chunk":
        return hit.chunk_id
    heading = hit.headings.rpartition(" > ")[2]
    return f"{hit.path}#{heading}" if by == "section" and heading else hit.path

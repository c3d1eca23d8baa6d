"""What each stage ranked for judged queries, in the judgements' own names.

In: CANDIDATES, of a store just asked or of a saved run. Out: a run a stage, which the metrics take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from tasks.evaluate.judged import Judged

STAGES = ("bm25", "vectors", "fusion", "rerank")

Run = dict[str, list[str]]  # query id → judged names, and other documents' paths, best first


@dataclass(frozen=True)
class Answer:
    """A judged name, or another document, as a stage found it."""

    name: str
    path: str  # of its document, or the URL
    headings: str  # of its best chunk, "A > B"


@dataclass(frozen=True)
class Runs:
    """What the stages found."""

    stages: dict[str, Run]
    answers: dict[str, list[Answer]]  # query id → the last stage's, in its order


def runs_of(judged: Judged, candidates: pa.Table) -> Runs:
    """The orders of `candidates`, CANDIDATES with the rows of a query together; a judged query is known by its text."""
    namer = Namer(judged.names)
    stages: dict[str, Run] = {stage: {query: [] for query in judged.queries} for stage in STAGES}
    answers: dict[str, list[Answer]] = {query: [] for query in judged.queries}
    asked: dict[str, list[str]] = {}
    for query, text in judged.queries.items():
        asked.setdefault(text, []).append(query)
    rows = (row for batch in candidates.to_batches() for row in batch.to_pylist())
    for text, of_query in groupby(rows, key=lambda row: row["query"]):
        seen = list(of_query)
        for stage in STAGES:
            place = f"{stage}_rank"
            ranked = sorted((row for row in seen if row[place] is not None), key=lambda row: row[place])
            found = namer.answers(ranked)
            for query in asked.get(text, ()):
                answers[query] = found
                stages[stage][query] = [answer.name for answer in found]
    return Runs(stages, answers)


class Namer:
    """Names chunks as the judgements do."""

    def __init__(self, judged: set[str]) -> None:
        self._judged = judged
        self._documents = judged | {name.partition("#")[0] for name in judged}
        self._document = cache(self._document_name)

    def held(self, documents: Iterable[Mapping[str, Any]]) -> set[str]:
        """The judged names that are of `documents`: their doc_id, uri and path."""
        ids, names = set(), set()
        for row in documents:
            ids.add(row["doc_id"])
            names.add(self._document(row["doc_id"], row["uri"], row["path"]))
        return {
            name
            for name in self._judged
            if names & {name, name.partition("#")[0]} or ("/" in name and name.partition("/")[0] in ids)
        }

    def answers(self, chunks: Iterable[Mapping[str, Any]]) -> list[Answer]:
        """What `chunks`, rows with the columns of CANDIDATES, are of: each once, at its best chunk's place."""
        found: dict[str, Answer] = {}
        for row in chunks:
            name = self.name(row)
            found.setdefault(name, Answer(name, row["path"], row["headings"]))
        return list(found.values())

    def name(self, row: Mapping[str, Any]) -> str:
        """What a chunk, a row with the columns of CANDIDATES, is of: a judged name, else its document's path."""
        if row["chunk_id"] in self._judged:
            return str(row["chunk_id"])
        document = self._document(row["doc_id"], row["uri"], row["path"])
        for heading in reversed(row["headings"].split(" > ")):
            if (section := f"{document}#{heading}") in self._judged:
                return section
        return document

    def _document_name(self, doc_id: str, uri: str, path: str) -> str:
        """Judged name, else its path. A URL with a fragment names a section, unless the page was indexed under it."""
        return next((name for name in (doc_id, uri, path, *_ends(path)) if name in self._documents), path)


def _ends(path: str) -> Iterable[str]:
    """The ends of a path, longest first, and the file's name without its extension."""
    parts = PurePosixPath(path).parts
    yield from ("/".join(parts[i:]) for i in range(1, len(parts)))
    yield PurePosixPath(path).stem

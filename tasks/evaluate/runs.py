"""Ask a store every judged query, and write down what each stage ranked, in the judgements' own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from schemas.settings import Settings
from tasks.evaluate.judged import Judged
from tasks.search import Ranking, rank
from tasks.store.generation import Generation
from tasks.store.reader import ChunkRef, Reader

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
    generation: Generation
    reranker: str
    missing: tuple[str, ...]  # judged names that the store does not hold at all
    seconds: dict[str, float]  # mean of a query, a step each


def ask(
    judged: Judged,
    settings: Settings,
    *,
    reader: Reader | None = None,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Runs:
    """Run every query of `judged` on the newest generation, or that of `reader`. Errors as of tasks.search.search."""
    stages: dict[str, Run] = {stage: {} for stage in STAGES}
    answers: dict[str, list[Answer]] = {}
    milliseconds: dict[str, float] = {}
    namer: Namer | None = None
    ranking: Ranking | None = None
    for done, (query, text) in enumerate(judged.queries.items(), start=1):
        ranking = rank(text, settings, reader=reader)
        namer = namer if namer is not None and namer.reader is ranking.reader else Namer(ranking.reader, judged.names)
        for stage, scored in ranking.stages.items():
            answers[query] = namer.answers([ref for ref, _ in scored])
            stages[stage][query] = [answer.name for answer in answers[query]]
        for step, took in ranking.timings_ms.items():
            milliseconds[step] = milliseconds.get(step, 0.0) + took
        report(done, len(judged.queries))
    assert ranking is not None  # a judged set holds a query
    assert namer is not None
    return Runs(
        stages=stages,
        answers=answers,
        generation=ranking.reader.generation,
        reranker=ranking.reranker,
        missing=tuple(sorted(judged.names - namer.present)),
        seconds={step: total / len(judged.queries) / 1000 for step, total in milliseconds.items()},
    )


class Namer:
    """Names chunks as the judgements do."""

    def __init__(self, reader: Reader, judged: set[str]) -> None:
        self.reader = reader
        self._sections = {name for name in judged if "#" in name}
        documents = {name.partition("#")[0] for name in judged}
        self._document: dict[str, str] = {}  # doc_id → judged name, else its path
        self._paths: dict[str, str] = {}
        table = reader.documents().select(["doc_id", "uri", "path"])
        for doc_id, uri, path in zip(*(column.to_pylist() for column in table.columns), strict=True):
            # a URL with a fragment names a section of a page, unless the page was indexed under it
            whole = [doc_id, uri, path, *_ends(path)]
            self._paths[doc_id] = path
            self._document[doc_id] = next((name for name in whole if name in judged or name in documents), path)
        self.present = {name for name in judged if self._is_present(name, set(self._document.values()))}
        self._chunks = {name for name in judged if name.partition("/")[0] in self._document and "/" in name}
        self.present |= self._chunks

    def _is_present(self, name: str, documents: set[str]) -> bool:
        return name in documents or name.partition("#")[0] in documents

    def names(self, refs: list[ChunkRef]) -> list[str]:
        """What `refs` are chunks of, each once, at its best chunk's place."""
        return [answer.name for answer in self.answers(refs)]

    def answers(self, refs: list[ChunkRef]) -> list[Answer]:
        """As `names`, with the path and the best chunk's headings."""
        rows = self.reader.fetch(refs, "chunk_id, doc_id, headings")
        found: dict[str, Answer] = {}
        for chunk_id, doc_id, headings in (rows[ref] for ref in refs):
            name = self._name(chunk_id, doc_id, headings)
            found.setdefault(name, Answer(name, self._paths[doc_id], headings))
        return list(found.values())

    def _name(self, chunk_id: str, doc_id: str, headings: str) -> str:
        if chunk_id in self._chunks:
            return chunk_id
        document = self._document[doc_id]
        for heading in reversed(headings.split(" > ")):
            if (section := f"{document}#{heading}") in self._sections:
                return section
        return document


def _ends(path: str) -> Iterable[str]:
    """The ends of a path, longest first, and the file's name without its extension."""
    parts = PurePosixPath(path).parts
    yield from ("/".join(parts[i:]) for i in range(1, len(parts)))
    yield PurePosixPath(path).stem

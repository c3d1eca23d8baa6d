"""Answer a file of questions: split → answer part by part → join.

In: questions (tasks.questions). Out: one Parquet file of HITS, of a cascade with rank and score at its first rerankers
too, in the order of the questions.

The parts lie beside the file until it is made: `HITS.parquet.parts/` has NNNNNN.questions.parquet (QUESTIONS) and
NNNNNN.hits.parquet (HITS). So memory does not grow with the questions, whoever answers a part needs only paths, and
what was answered before a crash or Ctrl-C is not asked again: the same batch goes on where it stopped, on the
generation it began with. Every line is read before the first is answered: a bad one fails at once, not after an hour.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import BadQuestions, NoSuchGeneration
from schemas.records import HITS, Filter, SearchResult, with_rerankers
from schemas.reranking import stage_names
from schemas.settings import Settings
from tasks.evaluate.candidates import QUERY_SETTINGS
from tasks.models import load_encoder
from tasks.questions import read_questions
from tasks.search import rank, result_of, stage_columns
from tasks.store.files import publish_file, sha256, write_text
from tasks.store.reader import Reader
from tasks.store.writer import locked

# Questions of a part: some seconds of work, which a crash may cost, and against which a task run's cost is small.
PART = 64
# Rows of a row group in the file of hits.
ROW_GROUP = 20_000


@dataclass(frozen=True)
class Batch:
    """Questions that were split into parts."""

    hits: Path  # the file to be made
    folder: Path  # of the parts
    parts: tuple[Path, ...]  # QUESTIONS each
    todo: tuple[Path, ...]  # those that no earlier run answered
    questions: int
    answered: int  # by an earlier run
    generation: int  # that answers them


@dataclass(frozen=True)
class BatchSummary:
    """What was answered."""

    file: str
    questions: int
    hits: int
    unanswered: int  # questions without a hit
    generation: int

    def __str__(self) -> str:
        """For example: `hits.parquet: 910 hits of 91 questions, generation 3`."""
        none = f", {self.unanswered:,} without a hit" if self.unanswered else ""
        return f"{self.file}: {self.hits:,} hits of {self.questions:,} questions{none}, generation {self.generation}"


@contextmanager
def prepared(
    file: Path,
    hits: Path,
    settings: Settings,
    *,
    k: int,
    wanted: Filter | None = None,
    generation: int | None = None,
) -> Iterator[Batch]:
    """Split the questions of `file` into parts, or take up those of an earlier run of the same batch.

    No other run touches them meanwhile.
    Raises BadQuestions, StoreBusy where another process makes the same file, and as tasks.search.search for the store.
    """
    with Reader.open(settings.store, generation) as reader:
        newest = reader.generation.number
    plan = _plan(file, settings, k=k, wanted=wanted, generation=generation)
    folder = hits.with_name(f"{hits.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "lock", f"another process makes {hits}; wait for it to end, or name another file"):
        number = _begun(folder, plan, settings.store)
        if number is None:
            number = newest
            _split(file, folder)
            write_text(folder / "plan.json", json.dumps({**plan, "searched": number}))
        parts = tuple(sorted(folder.glob("*.questions.parquet")))
        todo = tuple(part for part in parts if not _hits_of(part).exists())
        questions = _count(parts)
        try:
            yield Batch(hits, folder, parts, todo, questions, questions - _count(todo), number)
        finally:
            _reader.cache_clear()


def answer(
    part: Path,
    settings: Settings,
    *,
    generation: int,
    k: int,
    wanted: Filter | None = None,
    report: Callable[[], None] = lambda: None,
) -> Path:
    """Answer the questions of `part`, `queries_at_once` at a time; the file of HITS, whole or not there.

    They are embedded together. `report` is told of each that is done. Errors as of tasks.search.search.
    """
    questions = pq.read_table(part).to_pylist()
    reader = _reader(settings.store, generation)
    vectors = load_encoder(settings, reader.generation.embedder).encode([row["query"] for row in questions])

    def ask(row: dict[str, Any], vector: Any) -> list[dict[str, Any]]:
        ranking = rank(row["query"], settings, k=k, wanted=wanted, reader=reader, vector=vector)
        return _rows_of(row, result_of(row["query"], ranking, settings, k=k, explain=False))

    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(settings.queries_at_once, thread_name_prefix="query") as threads:
        try:
            for found in threads.map(ask, questions, vectors):
                rows += found
                report()
        except BaseException:  # Ctrl-C too: those under way end, the others are not begun
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    final = _hits_of(part)
    aside = final.with_name(f"{final.name}.{os.getpid()}.tmp")
    schema = with_rerankers(HITS, len(stage_names(settings.reranker)) - 1)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), aside, compression="zstd")
    publish_file(aside, final)
    return final


def join(batch: Batch) -> BatchSummary:
    """Make one file of all parts' hits, whole or not at all, and remove the parts."""
    aside = batch.hits.with_name(f"{batch.hits.name}.{os.getpid()}.tmp")
    hits = answered = 0
    schema = pq.read_schema(_hits_of(batch.parts[0]))
    with pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        group: list[pa.Table] = []
        for part in batch.parts:
            group.append(pq.read_table(_hits_of(part), schema=schema))
            hits += len(group[-1])
            answered += len(group[-1]["question"].unique())
            if part == batch.parts[-1] or sum(map(len, group)) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(group))
                group = []
    publish_file(aside, batch.hits)
    shutil.rmtree(batch.folder)
    return BatchSummary(str(batch.hits), batch.questions, hits, batch.questions - answered, batch.generation)


def _plan(questions: Path, settings: Settings, **asked: Any) -> dict[str, Any]:
    """What decides the answers; equal plans are the same batch."""
    try:
        content = sha256(questions)
    except OSError as error:
        raise BadQuestions(f"{questions} cannot be read: {error}") from error
    values = {name: getattr(settings, name) for name in (*QUERY_SETTINGS, "reranker", "embedder")}
    decides = json.dumps([str(settings.store.absolute()), asked, values], default=_plain, sort_keys=True)
    return {"questions": content, "asked": hashlib.sha256(decides.encode()).hexdigest()}


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Filter) else str(value)


def _begun(folder: Path, plan: dict[str, Any], store: Path) -> int | None:
    """The generation that an earlier run of the same plan searched, where it is kept; else the parts are removed."""
    try:
        begun = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        if begun == {**plan, "searched": begun["searched"]}:
            with Reader.open(store, begun["searched"]) as reader:
                return reader.generation.number
    except (FileNotFoundError, ValueError, KeyError, NoSuchGeneration):
        pass
    for left in folder.glob("*.*"):
        left.unlink()
    return None


def _split(questions: Path, folder: Path) -> None:
    """Write the parts. Raises BadQuestions, also where there is no question."""
    try:
        for number, batch in enumerate(read_questions(questions, PART)):
            pq.write_table(pa.Table.from_batches([batch]), folder / f"{number:06d}.questions.parquet")
        if not any(folder.glob("*.questions.parquet")):
            raise BadQuestions(f"{questions} holds no question")
    except BadQuestions:
        shutil.rmtree(folder)
        raise


@functools.lru_cache(maxsize=1)
def _reader(store: Path, generation: int) -> Reader:
    """Kept from part to part: with it stays what DuckDB has loaded."""
    return Reader.open(store, generation)


def _hits_of(part: Path) -> Path:
    return part.with_name(part.name.replace(".questions.", ".hits."))


def _count(parts: Sequence[Path]) -> int:
    return sum(pq.read_metadata(part).num_rows for part in parts)


def _rows_of(question: dict[str, Any], result: SearchResult) -> list[dict[str, Any]]:
    """Rows of HITS, and of a cascade."""
    common = question | {
        "generation": result.generation,
        "reranker": result.reranker,
        "fallback": result.fallback,
    }
    return [common | asdict(hit) | stage_columns(hit.stages) for hit in result.hits]

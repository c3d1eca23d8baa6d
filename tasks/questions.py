"""Questions to answer as a batch, read a part at a time.

In: a file. Out: QUESTIONS.

    questions.jsonl      {"query": "how do I transfer a domain?", "id": "q1"}, a line each
    questions.parquet    columns query and id

The id may be left out; BEIR's names, `text` and `_id`, will do as well.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import BadQuestions
from schemas.records import QUESTIONS

TEXTS = ("query", "text")
IDS = ("id", "_id", "query_id")


def read_questions(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    """The questions of a file in its order, `size` at a time. Raises BadQuestions, with file and line."""
    readers = {".jsonl": _of_lines, ".ndjson": _of_lines, ".parquet": _of_parquet}
    if path.suffix not in readers:
        raise BadQuestions(f"{path}: questions are read from .jsonl or .parquet, not from '{path.suffix}'")
    try:
        rows = enumerate(readers[path.suffix](path, size))
        while batch := list(itertools.islice(rows, size)):
            yield pa.RecordBatch.from_pylist(
                [{"question": place, "query_id": name, "query": text} for place, (name, text) in batch],
                schema=QUESTIONS,
            )
    except (OSError, pa.ArrowException) as error:
        raise BadQuestions(f"{path} cannot be read: {error}") from error


def _of_lines(path: Path, _: int) -> Iterator[tuple[str | None, str]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadQuestions(f'{place}: expected {{"query": …}}, a JSON object: {error}') from error
            if not isinstance(row, dict):
                raise BadQuestions(f'{place}: expected {{"query": …}}, not {json.dumps(row, ensure_ascii=False)[:80]}')
            yield _checked(row, place)


def _of_parquet(path: Path, size: int) -> Iterator[tuple[str | None, str]]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if not set(TEXTS) & set(names):
            raise BadQuestions(f"{path} has no column query (or text); it has {', '.join(names)}")
        wanted = [name for name in (*TEXTS, *IDS) if name in names]
        number = itertools.count(1)
        for batch in file.iter_batches(batch_size=size, columns=wanted):
            for row in batch.to_pylist():
                yield _checked(row, f"{path}, row {next(number)}")


def _checked(row: dict[str, Any], place: str) -> tuple[str | None, str]:
    """Id and text of a question."""
    name = next((row[key] for key in IDS if row.get(key) is not None), None)
    text = next((row[key] for key in TEXTS if key in row), None)
    if not isinstance(text, str) or not text.strip():
        found = f"has {', '.join(row) or 'nothing'}" if text is None else f"is {json.dumps(text)[:80]}"
        raise BadQuestions(f"{place}: a question is a text that is not empty, as query or text; this one {found}")
    if not isinstance(name, str | int | None):
        raise BadQuestions(f"{place}: an id is a text or a number, not {json.dumps(name, default=str)[:80]}")
    try:
        f"{name}{text}".encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise BadQuestions(f"{place}: the question is no valid text: {error}") from error
    return None if name is None else str(name), text

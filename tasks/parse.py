"""Parse a micro-batch of files.

In: file states. Out: DOCUMENTS and ELEMENTS, a failed file as a document row with its error and no elements.
The work is done in worker processes (tasks.parsing); one bad file never stops a run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ParseFailed
from schemas.records import DOCUMENTS, ELEMENTS, BatchRef, FileState
from schemas.settings import Settings
from tasks.chunk import chunker_fingerprint
from tasks.parsing.pool import Outcome, open_parsers
from tasks.shared import must_see
from tasks.timing import timed

# our own number, raised when the same file gives other elements, and the version of the library below; read from the
# installed metadata, since importing unstructured takes seconds
PARSER_VERSION = f"3-unstructured{importlib.metadata.version('unstructured')}"


# Files of a batch that are downloaded at once.
DOWNLOADS = 8


def parser_fingerprint(settings: Settings) -> str:
    """Names what decides the elements of a file; when it changes, quarantined files are tried again."""
    return f"parse{PARSER_VERSION}-{settings.languages}"


def document_id(state: FileState, *, failed: bool = False) -> str:
    """Names one version of one URI, and a failure apart from the same version parsed: each can be replaced alone."""
    key = f"{state.uri}\0{state.content_hash}{chr(0) * 2 + 'failed' if failed else ''}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


@timed("parse")
def parse_batch(files: Sequence[FileState], folder: Path, name: str, settings: Settings) -> BatchRef:
    """Parse `files` and write the documents and elements of batch `name` into `folder`, which is there.

    Raises NotShared.
    """
    must_see(folder)
    if ":" in settings.task_runner:  # on another machine what is not mounted would look deleted
        for root in {_root(state) for state in files if state.is_local}:
            must_see(root)
    with TemporaryDirectory(prefix="headrace-download-") as folder_of_copies:
        copies = _local_copies(files, Path(folder_of_copies), settings)
        parsed = iter(open_parsers(settings).parse_many([copy for copy in copies if isinstance(copy, Path)]))
        outcomes = [next(parsed) if isinstance(copy, Path) else copy for copy in copies]
    documents = [_document_row(state, outcome, settings) for state, outcome in zip(files, outcomes, strict=True)]
    elements = [
        {"doc_id": document["doc_id"], **vars(element)}
        for document, outcome in zip(documents, outcomes, strict=True)
        if not isinstance(outcome, ParseFailed)
        for element in outcome.elements
    ]
    failures = sum(isinstance(outcome, ParseFailed) for outcome in outcomes)
    batch = BatchRef(folder, name, documents=len(files), quarantined=failures)
    pq.write_table(pa.Table.from_pylist(elements, schema=ELEMENTS), batch.part("elements"))
    pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENTS), batch.part("documents"))
    return batch


def _root(state: FileState) -> Path:
    """The folder that a local file's source is, or is in; of a glob the one above its first wildcard."""
    shared = Path(os.path.commonpath([state.source, state.path]))
    return shared.parent if shared == Path(state.path) else shared


def _local_copies(files: Sequence[FileState], folder: Path, settings: Settings) -> list[Path | ParseFailed]:
    """Where each file can be opened; remote ones are downloaded into `folder`."""

    def copy(numbered: tuple[int, FileState]) -> Path | ParseFailed:
        n, state = numbered
        if state.is_local:
            return Path(state.path)
        from tasks.sources.remote import download

        own = folder / str(n)
        own.mkdir()
        try:
            return download(state.uri, own, settings.max_file_mb * 1024**2)
        except ParseFailed as error:
            return error

    with ThreadPoolExecutor(DOWNLOADS) as threads:
        return list(threads.map(copy, enumerate(files)))


def _document_row(state: FileState, outcome: Outcome, settings: Settings) -> dict[str, object]:
    parser = parser_fingerprint(settings)
    common = {
        **asdict(state),
        "chunk_count": 0,
        "file_type": Path(state.path).suffix.lower().removeprefix("."),
    }
    if isinstance(outcome, ParseFailed):
        return common | {
            "doc_id": document_id(state, failed=True),
            "title": "",
            # what could not be reached is tried again by every run
            "fingerprint": "" if outcome.kind == "unreachable" else parser,
            "metadata": "{}",
            "error_kind": outcome.kind,
            "error": outcome.detail,
        }
    return common | {
        "doc_id": document_id(state),
        "title": outcome.title,
        "file_type": outcome.file_type,
        "fingerprint": f"{parser}+{chunker_fingerprint(settings)}",
        "metadata": json.dumps(outcome.metadata, ensure_ascii=False),
    }

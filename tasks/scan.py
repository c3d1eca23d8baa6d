"""Find what changed in a source since the last refresh.

In: a source (folder, file or glob) and the live documents of the store. Out: a Plan.
Size and mtime first: a file whose both are as last seen is not read. Else its SHA-256 decides, so that a touched file
costs one read and no parse, and a rename or a copy is known by its content.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import BadSource, CorruptStore, DeleteGuard
from schemas.records import FileState
from tasks.store.files import publish_file, sha256

logger = logging.getLogger(__name__)

# A file written again within the clock's grain keeps its mtime: what is this young is not remembered by its mtime.
RACY_NS = 2_000_000_000

SEEN = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("content_hash", pa.string())])


@dataclass(frozen=True)
class KnownDocument:
    """A live document row of the store, as far as scanning needs it."""

    doc_id: str
    uri: str
    source: str
    path: str
    content_hash: str
    fingerprint: str
    quarantined: bool


@dataclass
class Plan:
    """What a refresh has to do. `carried` files have content that the store already has under another URI."""

    files: int = 0
    unchanged: int = 0
    still_quarantined: int = 0
    to_parse: list[FileState] = field(default_factory=list)
    carried: list[tuple[KnownDocument, FileState]] = field(default_factory=list)
    replaced: dict[str, list[KnownDocument]] = field(default_factory=dict)  # uri → rows that its new version replaces
    obsolete: list[KnownDocument] = field(default_factory=list)  # to bury at once: deleted, renamed away, cured
    added: int = 0
    changed: int = 0
    renamed: int = 0
    copied: int = 0
    deleted: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to publish."""
        return not (self.to_parse or self.carried or self.obsolete)


class SeenFiles:
    """What each file's size, mtime and hash were; only a shortcut: losing it costs reading the files once."""

    def __init__(self, store: Path) -> None:
        self._path = store / "seen.parquet"
        self._seen: dict[str, tuple[int, int, str]] = {}
        if self._path.exists():
            try:
                rows = pq.read_table(self._path, schema=SEEN).to_pylist()
            except (OSError, pa.ArrowException) as error:
                logger.warning("seen files unreadable, every file is read again: %s", error)
                rows = []
            self._seen = {row["uri"]: (row["size"], row["mtime_ns"], row["content_hash"]) for row in rows}

    def state(self, path: Path, source: str) -> FileState:
        """The file's state, read only where size or mtime changed. Raises OSError."""
        stat = path.stat()
        uri = path.as_uri()
        size, mtime_ns, content_hash = self._seen.get(uri, (-1, -1, ""))
        if (size, mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            content_hash = sha256(path)
            if time.time_ns() - stat.st_mtime_ns > RACY_NS:
                self._seen[uri] = (stat.st_size, stat.st_mtime_ns, content_hash)
        return FileState(uri, str(path), source, stat.st_size, stat.st_mtime_ns, content_hash)

    def save(self) -> None:
        """Keep what was seen for the next run."""
        rows = [(uri, *state) for uri, state in self._seen.items()]
        columns = list(zip(*rows, strict=True)) or [()] * len(SEEN)
        aside = self._path.with_suffix(".tmp")
        pq.write_table(pa.table([list(column) for column in columns], schema=SEEN), aside)
        publish_file(aside, self._path)


def source_files(source: str) -> tuple[str, Iterator[Path]]:
    """A source's absolute name and its files, hidden ones and links that leave it aside. Raises BadSource."""
    path = Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100 resolve() would follow links
    if path.is_dir():
        return str(path), _walk(path)
    if path.is_file():
        return str(path), iter([path])
    if any(c in source for c in "*?["):
        matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        return str(path), (match for match in matches if match.is_file())
    raise BadSource(f"no folder, file or glob matches {source}; check the path")


def _walk(root: Path) -> Iterator[Path]:
    real_root = root.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(real_root):
                continue
            yield path


def scan(
    sources: Iterable[str],
    known: Iterable[KnownDocument],
    seen: SeenFiles,
    *,
    parser: str,
    fingerprint: str,
    max_delete_share: float,
) -> Plan:
    """Compare `sources` with the `known` live documents.

    `fingerprint` names the parser and chunker in use and decides whether indexed documents are up to date; a
    quarantined one waits for its file or the `parser` to change.

    Raises BadSource where a source is missing or holds no file, DeleteGuard where more than `max_delete_share` of a
    source's documents are gone.
    """
    plan = Plan()
    rows_of: dict[str, list[KnownDocument]] = defaultdict(list)
    by_content: dict[str, KnownDocument] = {}
    for document in known:
        rows_of[document.uri].append(document)
        if not document.quarantined and document.fingerprint == fingerprint:
            by_content.setdefault(document.content_hash, document)

    found: dict[str, FileState] = {}
    gone: dict[str, list[KnownDocument]] = {}
    for source in sources:
        name, paths = source_files(source)
        before = len(found)
        for path in paths:
            try:
                state = seen.state(path, name)
            except FileNotFoundError:
                continue  # deleted since it was listed
            except OSError as error:  # the parser finds the same and says so in the quarantine
                state = FileState(path.as_uri(), str(path), name, 0, 0, f"unreadable:{type(error).__name__}")
            found[state.uri] = state
        missing = [d for rows in rows_of.values() for d in rows if _within(d, name) and d.uri not in found]
        if len(found) == before and not missing:
            raise BadSource(f"{name} holds no files; check the path")
        gone |= {document.uri: rows_of[document.uri] for document in missing}
        _guard(name, missing, rows_of, max_delete_share)

    for state in found.values():
        _classify(state, rows_of[state.uri], by_content, gone, (parser, fingerprint), plan)
    for rows in gone.values():
        plan.obsolete += rows
        plan.deleted += 1
    plan.files = len(found)
    return plan


def _within(document: KnownDocument, source: str) -> bool:
    return document.source == source or Path(document.path).is_relative_to(source)


def _guard(
    source: str, missing: list[KnownDocument], rows_of: dict[str, list[KnownDocument]], max_share: float
) -> None:
    before = len({uri for uri, rows in rows_of.items() for d in rows if _within(d, source)})
    lost = len({document.uri for document in missing})
    if before and lost / before > max_share:
        raise DeleteGuard(
            f"{lost} of {before} documents of {source} are gone, more than {max_share:.0%}: an unmounted disk or a "
            "wrong path? Nothing was changed. If they are really deleted, run again with --allow-deletes"
        )


def _classify(
    state: FileState,
    rows: list[KnownDocument],
    by_content: dict[str, KnownDocument],
    gone: dict[str, list[KnownDocument]],
    current: tuple[str, str],
    plan: Plan,
) -> None:
    for row in rows:
        if row.content_hash == state.content_hash and row.fingerprint == current[not row.quarantined]:
            plan.unchanged += not row.quarantined
            plan.still_quarantined += row.quarantined
            if not row.quarantined:  # back to a version that parses: the failure of another one is history
                plan.obsolete += [other for other in rows if other is not row]
            return
    plan.replaced[state.uri] = rows
    twin = by_content.get(state.content_hash)
    if twin is None or Path(twin.path).suffix != Path(state.path).suffix:  # the suffix chooses the parser
        plan.to_parse.append(state)
        plan.added += not rows
        plan.changed += bool(rows)
        return
    plan.carried.append((twin, state))
    if rows:
        plan.changed += 1
    elif twin.uri in gone:
        plan.renamed += 1
        plan.obsolete += gone.pop(twin.uri)
    else:
        plan.copied += 1


def known_documents(table: pa.Table) -> list[KnownDocument]:
    """The store's live document rows as scanning sees them. Raises CorruptStore where columns are missing."""
    columns = ["doc_id", "uri", "source", "path", "content_hash", "fingerprint", "error_kind"]
    if not set(columns) <= set(table.column_names):
        raise CorruptStore("the store's documents table lacks columns; rebuild the store")

    def known(row: dict[str, Any]) -> KnownDocument:
        quarantined = row.pop("error_kind") is not None
        return KnownDocument(**row, quarantined=quarantined)

    return [known(row) for row in table.select(columns).to_pylist()]

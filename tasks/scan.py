"""Find what changed in a source since the last refresh.

In: sources, whole or restricted to what may have changed, and the live documents of the store. Out: a Plan.
Size and mtime first: a local file whose both are as last seen is not read. Else its SHA-256 decides, so that a touched
file costs one read and no parse, and a rename or a copy is known by its content. A remote file is compared by its
version token and not read at all. What is below a folder that could not be listed is not taken for deleted.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import BadSource, DeleteGuard, HeadraceError, ParseFailed, SourceUnreachable
from schemas.records import FileState
from tasks.sources.found import Found, Source, at_or_below, topmost, within
from tasks.store.files import publish_file, sha256

logger = logging.getLogger(__name__)

# A file written again within the clock's grain keeps its mtime: what is this young is not remembered by its mtime.
RACY_NS = 2_000_000_000

SEEN = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("content_hash", pa.string())])


@dataclass(frozen=True, slots=True)
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

    def __init__(self, store: Path, *, remembered: bool = True) -> None:
        """`remembered`: as the last run saw them; without it, every file that is asked for is read."""
        self._path = store / "seen.parquet"
        self._seen: dict[str, tuple[int, int, str]] = {}
        if remembered and self._path.exists():
            try:
                rows = pq.read_table(self._path, schema=SEEN).to_pylist()
            except (OSError, pa.ArrowException) as error:
                logger.warning("seen files unreadable, every file is read again: %s", error)
                rows = []
            self._seen = {row["uri"]: (row["size"], row["mtime_ns"], row["content_hash"]) for row in rows}

    def state(self, found: Found, source: str, max_bytes: int) -> FileState:
        """The file's state, read only where size or mtime changed, and never where it is too large. Raises OSError."""
        if found.version is not None:
            content_hash = version_hash(found)
        elif found.size > max_bytes:  # the parser refuses it unread
            content_hash = f"too-large:{found.size}:{found.mtime_ns}"
        elif found.uri.startswith("file:"):
            content_hash = self._local_hash(found)
        else:
            content_hash = _downloaded_hash(found, max_bytes)
        return FileState(found.uri, found.path, source, found.size, found.mtime_ns, content_hash)

    def _local_hash(self, found: Found) -> str:
        size, mtime_ns, content_hash = self._seen.get(found.uri, (-1, -1, ""))
        if (size, mtime_ns) != (found.size, found.mtime_ns):
            content_hash = sha256(Path(found.path))
            if time.time_ns() - found.mtime_ns > RACY_NS:
                self._seen[found.uri] = (found.size, found.mtime_ns, content_hash)
        return content_hash

    def save(self) -> None:
        """Keep what was seen for the next run."""
        rows = [(uri, *state) for uri, state in self._seen.items()]
        columns = list(zip(*rows, strict=True)) or [()] * len(SEEN)
        aside = self._path.with_suffix(".tmp")
        pq.write_table(pa.table([list(column) for column in columns], schema=SEEN), aside)
        publish_file(aside, self._path)


def version_hash(found: Found) -> str:
    """Stands for the SHA-256 of a remote file's bytes, hex; of one URI only: servers number versions as they like."""
    return hashlib.sha256(f"{found.uri}\0{found.version}".encode()).hexdigest()


def _downloaded_hash(found: Found, max_bytes: int) -> str:
    """The SHA-256, hex, of a file of which its server tells neither version nor time."""
    from tasks.sources.remote import download

    with tempfile.TemporaryDirectory(prefix="headrace-scan-") as folder:
        try:
            return sha256(download(found.uri, Path(folder), max_bytes))
        except ParseFailed as error:  # the parser finds the same and says so in the quarantine
            return f"unreadable:{error.kind}"


class Known(Protocol):
    """What the store holds."""

    def all(self) -> Sequence[KnownDocument]:
        """Every live document row."""
        ...

    def near(self, places: Collection[str], content_hashes: Collection[str]) -> Sequence[KnownDocument]:
        """The rows at or below some paths, of which none lies below another, and those with one of some contents."""
        ...

    def count(self, source: str) -> int:
        """How many documents a source has."""
        ...


# What went wrong with a source, by its name; its documents stay as they are.
Troubles = list[tuple[str, HeadraceError]]


def scan(
    sources: Sequence[Source],
    known: Known,
    seen: SeenFiles,
    *,
    parser: str,
    fingerprint: str,
    max_delete_share: float,
    max_bytes: int,
    troubles: Troubles | None = None,
) -> Plan:
    """Compare `sources` with the `known` live documents.

    `fingerprint` names the parser and chunker in use and decides whether indexed documents are up to date; a
    quarantined one waits for its file or the `parser` to change. Of a source that is restricted to some places, only
    what is there is compared, and only rows that matter for it are asked for.

    Raises BadSource where a source is missing or holds no file, SourceUnreachable where it cannot be listed,
    DeleteGuard where more than `max_delete_share` of a source's documents are gone and were not renamed; where
    `troubles` are given, these are noted there and the other sources go on.
    """
    plan = Plan()
    found: dict[str, FileState] = {}
    listed: dict[str, tuple[Source, int]] = {}  # those that were listed to their end, and how many files each gave
    for source in sources:
        try:
            states = [state for file in source.files() if (state := _state(file, source.name, seen, max_bytes))]
        except (BadSource, SourceUnreachable) as error:
            _note(source.name, error, troubles)
            continue
        found |= {state.uri: state for state in states}
        listed[source.name] = source, len(states)

    rows_of: dict[str, list[KnownDocument]] = defaultdict(list)
    by_content: dict[str, KnownDocument] = {}
    for document in _concerned(sources, known, found.values()):
        rows_of[document.uri].append(document)
        if not document.quarantined and document.fingerprint == fingerprint:
            by_content.setdefault(document.content_hash, document)
    missing = {name: _missing(source, rows_of, found) for name, (source, _) in listed.items()}
    gone = {uri: rows_of[uri] for uris in missing.values() for uri in uris}
    for state in found.values():
        _classify(state, rows_of[state.uri], by_content, gone, (parser, fingerprint), plan)
    for name, (source, files) in listed.items():
        lost = missing[name] & gone.keys()
        try:
            if source.places is None and not files and not missing[name]:
                raise _empty(source)
            _guard(name, len(lost), known, max_delete_share)
        except (BadSource, DeleteGuard) as error:
            _note(name, error, troubles)
            gone = {uri: rows for uri, rows in gone.items() if uri not in lost}
    for rows in gone.values():
        plan.obsolete += rows
        plan.deleted += 1
    plan.files = len(found)
    return plan


def _state(file: Found, source: str, seen: SeenFiles, max_bytes: int) -> FileState | None:
    try:
        return seen.state(file, source, max_bytes)
    except FileNotFoundError:
        return None  # deleted since it was listed
    except OSError as error:  # the parser finds the same and says so in the quarantine
        return FileState(file.uri, file.path, source, 0, 0, f"unreadable:{type(error).__name__}")


def _note(source: str, error: HeadraceError, troubles: Troubles | None) -> None:
    if troubles is None:
        raise error
    troubles.append((source, error))


def _concerned(sources: Sequence[Source], known: Known, found: Collection[FileState]) -> Sequence[KnownDocument]:
    """The rows that listing `sources`, in whole or in part, can say something about."""
    places: set[str] = set()
    for source in sources:
        if source.places is None:
            return known.all()
        places |= source.places
    return known.near(topmost(places), {state.content_hash for state in found})


def _missing(source: Source, rows_of: Mapping[str, list[KnownDocument]], found: Collection[str]) -> set[str]:
    """URIs of documents that a source had where it was listed now, and has no more."""
    return {
        uri
        for uri, rows in rows_of.items()
        if uri not in found
        for d in rows
        if (d.source == source.name or within(d.path, source.name))
        and (source.places is None or at_or_below(d.path, source.places))
        and not any(within(d.path, folder) for folder in source.unread)
    }


def _empty(source: Source) -> BadSource:
    if source.unread:
        return BadSource(f"{source.name} cannot be listed; check the permissions")
    return BadSource(f"{source.name} holds no files that the settings include; check the path, include and exclude")


def _guard(source: str, lost: int, known: Known, max_share: float) -> None:
    if lost and lost / (before := known.count(source)) > max_share:
        raise DeleteGuard(
            f"{lost} of {before} documents of {source} are gone, more than {max_share:.0%}: an unmounted disk or a "
            f"wrong path? They stay searchable. If they are really deleted: headrace ingest {source} --allow-deletes"
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

"""Generations: one JSON manifest each, naming the live segments; CURRENT names the newest.

    <store>/CURRENT                  "000042"
    <store>/manifests/000042.json    with a digest of itself
    <store>/segments/000042-….*      see tasks.store.segment

A generation never changes once CURRENT has named it. Whoever reads one holds a shared lock (flock) on its manifest, so
that nobody removes its files (see tasks.store.retention); the lock goes with its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import CorruptStore, NoSuchGeneration, StoreFormat, StoreNotFound
from tasks.store.files import write_text

FORMAT = 2


@dataclass(frozen=True)
class Analyzer:
    """How text becomes terms; see tasks.store.terms."""

    tokenizer: str
    stemmer: str
    stopwords: str


@dataclass(frozen=True)
class Segment:
    """One immutable DuckDB file, its Parquet twin, and what of them is live in this generation."""

    name: str  # file name without suffix, under segments/
    digests: dict[str, str] = field(default_factory=dict)  # suffix → SHA-256 of the file
    bytes: int = 0  # of all its files
    documents: int = 0  # rows, dead and quarantined ones included
    chunks: int = 0  # rows, dead ones included
    tombstones: int = 0
    live_documents: int = 0  # indexed ones
    live_quarantined: int = 0  # files that could not be parsed
    live_chunks: int = 0
    live_length: int = 0  # terms in the live chunks, for BM25's average length; in all fields
    live_title_length: int = 0
    live_headings_length: int = 0
    hnsw: bool = False  # has an HNSW index that is worth using
    fts: bool = False  # has DuckDB's own FTS index, for other clients

    @property
    def dead_chunks(self) -> int:
        """Chunks that newer segments bury."""
        return self.chunks - self.live_chunks

    def path(self, store: Path, suffix: str = "duckdb") -> Path:
        """Path of one of the segment's files."""
        return store / "segments" / f"{self.name}.{suffix}"


@dataclass(frozen=True)
class Generation:
    """The set of live segments, oldest first, and what made their content."""

    number: int
    embedder: str  # fingerprint of the model whose vectors are in the segments
    dim: int
    analyzer: Analyzer
    segments: tuple[Segment, ...] = ()
    event: str = ""  # what published it: refresh, compact, rollback to 3, …
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT

    @property
    def chunks(self) -> int:
        """Live chunks."""
        return sum(segment.live_chunks for segment in self.segments)

    @property
    def documents(self) -> int:
        """Live indexed documents."""
        return sum(segment.live_documents for segment in self.segments)

    @property
    def quarantined(self) -> int:
        """Live quarantine rows."""
        return sum(segment.live_quarantined for segment in self.segments)


def exists(store: Path) -> bool:
    """Whether `store` has a published generation."""
    return (store / "CURRENT").is_file()


def numbers(store: Path) -> list[int]:
    """Numbers of the generations that are kept, oldest first."""
    return sorted(int(path.stem) for path in (store / "manifests").glob("*.json") if path.stem.isdigit())


def current_number(store: Path) -> int:
    """Number of the newest generation.

    Raises StoreNotFound, CorruptStore.
    """
    try:
        text = (store / "CURRENT").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFound(f"no store at {store}; build one with: headrace ingest FOLDER --store {store}") from None
    except UnicodeDecodeError:
        text = ""
    if not text.isdigit():
        kept = numbers(store)
        raise CorruptStore(
            f"{store / 'CURRENT'} does not name a generation; "
            + (
                f"repair it with: headrace rollback {kept[-1]} --store {store}"
                if kept
                else "no manifest is left either"
            )
        )
    return int(text)


def read(store: Path, number: int | None = None) -> Generation:
    """The manifest of generation `number`, or of the newest.

    Raises StoreNotFound, NoSuchGeneration, StoreFormat, CorruptStore.
    """
    generation, lease = read_leased(store, number)
    os.close(lease)
    return generation


def read_leased(store: Path, number: int | None = None) -> tuple[Generation, int]:
    """As `read`, and a file descriptor that keeps the generation's files from being removed until it is closed."""
    while True:
        wanted = current_number(store) if number is None else number
        path = manifest_path(store, wanted)
        try:
            lease = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if number is None and current_number(store) != wanted:
                continue  # published and already expired between the two looks
            kept = ", ".join(map(str, numbers(store))) or "none"
            raise (
                CorruptStore(f"{path} is missing although CURRENT names it; kept generations: {kept}")
                if number is None
                else NoSuchGeneration(f"{store} has no generation {number}; kept are: {kept}")
            ) from None
        fcntl.flock(lease, fcntl.LOCK_SH)
        if os.fstat(lease).st_nlink:
            break
        os.close(lease)  # removed while we waited for the lock
    try:
        return _parsed(store, path, path.read_bytes()), lease
    except BaseException:
        os.close(lease)
        raise


def write(store: Path, generation: Generation) -> None:
    """Make `generation` the newest: its manifest first, then CURRENT."""
    body = asdict(generation)
    text = json.dumps({**body, "digest": _digest(body)}, indent=1) + "\n"
    write_text(manifest_path(store, generation.number), text)
    write_text(store / "CURRENT", f"{generation.number:06d}\n")


def manifest_path(store: Path, number: int) -> Path:
    """Where the manifest of generation `number` lies."""
    return store / "manifests" / f"{number:06d}.json"


def kept_generations(store: Path) -> Iterator[Generation]:
    """All generations that are kept, oldest first. Raises CorruptStore at a damaged manifest."""
    for number in numbers(store):
        with suppress(NoSuchGeneration):  # removed since it was listed
            yield read(store, number)


def _parsed(store: Path, path: Path, text: bytes) -> Generation:
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["format"] != FORMAT:
            raise StoreFormat(
                f"{store} has format {raw['format']}, this Headrace reads {FORMAT}; "
                + ("upgrade Headrace" if raw["format"] > FORMAT else "ingest its sources into a new store")
            )
        if raw.pop("digest") != _digest(raw):
            raise ValueError("its digest is not that of its content")
        segments = tuple(Segment(**segment) for segment in raw.pop("segments"))
        return Generation(**{**raw, "analyzer": Analyzer(**raw["analyzer"])}, segments=segments)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        others = [n for n in numbers(store) if f"{n:06d}" != path.stem]
        repair = f"; go back with: headrace rollback {others[-1]} --store {store}" if others else ""
        raise CorruptStore(f"{path} is damaged: {error}{repair}") from error


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

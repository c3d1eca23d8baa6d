"""Generations: one JSON manifest each, naming the live segments; CURRENT names the newest.

    <store>/CURRENT                  "000042"
    <store>/manifests/000042.json
    <store>/segments/000042-….duckdb

A generation never changes once CURRENT has named it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import CorruptStore, StoreFormat, StoreNotFound
from tasks.store.files import write_text

FORMAT = 1


@dataclass(frozen=True)
class Segment:
    """One immutable DuckDB file and what of it is live in this generation."""

    file: str  # name under segments/
    sha256: str = ""
    bytes: int = 0
    chunks: int = 0  # dead ones included
    live_chunks: int = 0
    live_length: int = 0  # terms in the live chunks, for BM25's average length
    live_documents: int = 0  # indexed ones
    live_quarantined: int = 0  # files that could not be parsed
    hnsw: bool = False


@dataclass(frozen=True)
class Generation:
    """The set of live segments, oldest first, and the settings that made their content."""

    number: int
    embedder: str  # fingerprint of the model whose vectors are in the segments
    dim: int
    stemmer: str
    stopwords: str
    segments: tuple[Segment, ...] = ()
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


def current_number(store: Path) -> int:
    """Number of the newest generation.

    Raises StoreNotFound, CorruptStore.
    """
    try:
        text = (store / "CURRENT").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFound(f"no store at {store}; build one with: headrace ingest FOLDER --store {store}") from None
    if not text.isdigit():
        raise CorruptStore(
            f"{store / 'CURRENT'} does not name a generation; write the newest number of {store / 'manifests'} into it"
        )
    return int(text)


def read(store: Path, number: int | None = None) -> Generation:
    """The manifest of generation `number`, or of the newest.

    Raises StoreNotFound, StoreFormat, CorruptStore.
    """
    path = _manifest(store, current_number(store) if number is None else number)
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] > FORMAT:
            raise StoreFormat(
                f"{store} has format {raw['format']}, this Headrace reads up to {FORMAT}; upgrade Headrace"
            )
        segments = tuple(Segment(**segment) for segment in raw.pop("segments"))
        return Generation(**raw, segments=segments)
    except FileNotFoundError:
        raise CorruptStore(f"{path} is missing although CURRENT names it") from None
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptStore(f"{path} is damaged: {error}") from error


def write(store: Path, generation: Generation) -> None:
    """Make `generation` the newest: its manifest first, then CURRENT."""
    write_text(_manifest(store, generation.number), json.dumps(asdict(generation), indent=1) + "\n")
    write_text(store / "CURRENT", f"{generation.number:06d}\n")


def _manifest(store: Path, number: int) -> Path:
    return store / "manifests" / f"{number:06d}.json"

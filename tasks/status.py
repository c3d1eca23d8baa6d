"""What a store holds, for people and for monitoring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.store.reader import Reader


@dataclass(frozen=True)
class Quarantined:
    """A file that could not be parsed."""

    path: str
    kind: str  # a short constant reason
    reason: str


@dataclass(frozen=True)
class StoreStatus:
    """One generation in figures."""

    store: str
    generation: int
    created: str  # ISO 8601, UTC
    embedder: str
    dim: int
    documents: int
    chunks: int
    segments: int
    hnsw_segments: int
    bytes: int  # of the whole store folder
    sources: dict[str, int]  # documents a source
    quarantine: tuple[Quarantined, ...]


def store_status(store: Path) -> StoreStatus:
    """Status of the newest generation. Raises StoreNotFound, StoreFormat, CorruptStore."""
    with Reader.open(store) as reader:
        generation, rows = reader.generation, reader.documents().to_pylist()
    sources: dict[str, int] = {}
    for row in rows:
        if row["error_kind"] is None:
            sources[row["source"]] = sources.get(row["source"], 0) + 1
    return StoreStatus(
        store=str(store),
        generation=generation.number,
        created=generation.created,
        embedder=generation.embedder,
        dim=generation.dim,
        documents=generation.documents,
        chunks=generation.chunks,
        segments=len(generation.segments),
        hnsw_segments=sum(segment.hnsw for segment in generation.segments),
        bytes=sum(path.stat().st_size for path in store.rglob("*") if path.is_file()),
        sources=sources,
        quarantine=tuple(
            Quarantined(row["path"], row["error_kind"], row["error"])
            for row in sorted(rows, key=lambda row: row["path"])
            if row["error_kind"] is not None
        ),
    )

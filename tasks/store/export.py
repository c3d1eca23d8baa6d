"""Export a generation as one plain DuckDB file."""

from __future__ import annotations

import uuid
from pathlib import Path

from schemas.errors import BadSource
from tasks.store.compaction import merge_segments
from tasks.store.files import publish_file
from tasks.store.reader import Reader


def export(store: Path, target: Path, *, number: int | None = None, memory_mb: int) -> int:
    """Write the live rows of the newest generation, or of generation `number`, to the DuckDB file `target`.

    `fts_main_chunks.match_bm25` and the HNSW index work on it in any DuckDB client. Returns its bytes. Raises BadSource
    where `target` exists or its folder does not, and as Reader.open.
    """
    if target.exists() or not target.parent.is_dir():
        raise BadSource(f"{target} exists already" if target.exists() else f"there is no folder {target.parent}")
    with Reader.open(store, number) as reader:
        everything = range(len(reader.generation.segments))
        aside = target.with_name(f".{target.stem}-{uuid.uuid4().hex[:8]}.duckdb")
        try:
            segment = merge_segments(reader, everything, aside, plain=True, hnsw_min_rows=1, memory_mb=memory_mb)
            publish_file(aside, target)
        finally:
            for leftover in target.parent.glob(f"{aside.stem}.*"):
                leftover.unlink()
    return segment.bytes

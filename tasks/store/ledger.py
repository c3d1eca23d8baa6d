"""The ledger: every vector ever computed, in append-only Parquet parts, keyed by model and chunk text.

    <store>/embeddings/<model fingerprint>/<part>.parquet    chunk_hash string, embedding fixed-size list<float32>[dim]

It is the truth about what has been embedded: a segment can always be made again from it, without a model.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.records import embeddings_schema
from tasks.store.files import publish_file

# Rows of a part at most: some seconds of work on a CPU, which is what a crash or Ctrl-C may cost.
PART_ROWS = 256


class Ledger:
    """One model's part of the ledger. Hashes are held in memory, some 50 bytes a vector."""

    def __init__(self, store: Path, fingerprint: str) -> None:
        self.folder = store / "embeddings" / fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        known = [pq.read_table(part, columns=["chunk_hash"])["chunk_hash"] for part in self.parts()]
        self._known = pa.chunked_array([c for array in known for c in array.chunks], type=pa.string())
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def parts(self) -> list[Path]:
        """The Parquet files, oldest name first."""
        return sorted(self.folder.glob("*.parquet"))

    def ensure(self, texts: dict[str, str], encode: Callable[[Sequence[str]], np.ndarray]) -> int:
        """Embed those of `texts` (chunk hash → text) that are not known, append them, and return how many they were.

        `encode` takes n texts and returns float32[n, dim]. One caller at a time, so that no text is embedded twice.
        Raises CancelledError after `stop`; what was appended stays.
        """
        with self._lock:
            hashes = pa.array(texts, type=pa.string())
            missing = hashes.filter(pc.invert(pc.is_in(hashes, value_set=self._known.combine_chunks()))).to_pylist()
            for start in range(0, len(missing), PART_ROWS):
                part = missing[start : start + PART_ROWS]
                if self._stopped.is_set():
                    raise CancelledError
                self._append(part, encode([texts[key] for key in part]))
            return len(missing)

    def stop(self) -> None:
        """Let a call of `ensure` under way end after the part that it is at."""
        self._stopped.set()

    def _append(self, hashes: list[str], vectors: np.ndarray) -> None:
        dim = vectors.shape[1]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), type=pa.float32()), dim)
        table = pa.Table.from_arrays([pa.array(hashes, type=pa.string()), column], schema=embeddings_schema(dim))
        part = self.folder / f"{len(self._known):09d}-{uuid.uuid4().hex[:8]}.parquet"
        aside = part.with_suffix(".tmp")
        pq.write_table(table, aside, compression="zstd")
        publish_file(aside, part)
        self._known = pa.chunked_array([*self._known.chunks, table["chunk_hash"].combine_chunks()], type=pa.string())

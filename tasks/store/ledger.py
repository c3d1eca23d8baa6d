"""The ledger: every vector ever computed, in immutable Parquet parts, keyed by model and chunk text.

    <store>/embeddings/<model fingerprint>/<rows>-<SHA-256>.parquet    chunk_hash, embedding; sorted by chunk_hash

It is the truth about what has been embedded: a segment can always be made again from it, without a model. A part is
named after its content, and small parts are folded into larger ones; sorted in small row groups, so that looking for a
few hashes reads a few kilobytes of each part, whatever the size of the ledger.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import embeddings_schema
from tasks.store.connection import connect
from tasks.store.files import publish_file, sha256

# Rows of a new part at most: some seconds of work on a CPU, which is what a crash or Ctrl-C may cost.
PART_ROWS = 256

# Parts of one size are folded when so many have gathered, or when together they make the next size; the largest, 25 MB
# of 384-dimensional vectors, stay as they are.
FOLD = 16
SIZES = (0, 2_048, 16_384)

# Rows that a lookup reads for a hash that it finds; 100 KB of 384-dimensional vectors, uncompressed a third faster to
# read.
ROW_GROUP = 256

# Key of a part's metadata: names of the parts that it replaces, JSON.
FOLDED = b"folded"


class Ledger:
    """One model's part of the ledger, opened by the one process that ingests."""

    def __init__(self, store: Path, fingerprint: str) -> None:
        self.folder = store / "embeddings" / fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._con = connect(vectors=False)
        self._lock = threading.Lock()
        self._folded: set[Path] = set()  # whoever listed them before may still read them

    def _sweep(self) -> None:
        """Remove what a process that was killed left: half a part, and parts that it had folded into others."""
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        # the smaller before the larger: a part that is itself folded goes after those that were folded into it
        for part in sorted(self.folder.glob("*.parquet")):
            try:
                folded = (pq.read_schema(part).metadata or {}).get(FOLDED, b"[]")
            except (OSError, pa.ArrowException):  # damaged: `headrace verify` names it, `headrace rebuild` repairs it
                continue
            for name in json.loads(folded):
                (self.folder / name).unlink(missing_ok=True)

    def parts(self) -> list[Path]:
        """The Parquet files that together hold every vector."""
        return sorted(set(self.folder.glob("*.parquet")) - self._folded)

    def ensure(self, texts: dict[str, str], encode: Callable[[Sequence[str]], np.ndarray]) -> int:
        """Embed those of `texts` (chunk hash → text) that are not known, append them, and return how many they were.

        `encode` takes n texts and returns float32[n, dim]. One caller at a time, so that no text is embedded twice.
        """
        with self._lock:
            missing = self._missing(texts)
            for start in range(0, len(missing), PART_ROWS):
                part = missing[start : start + PART_ROWS]
                self._write(embeddings(part, encode([texts[key] for key in part])))
            self._fold()
            return len(missing)

    def missing(self, hashes: Iterable[str]) -> list[str]:
        """Those of `hashes` that have no vector here, in their order."""
        with self._lock:
            return self._missing(hashes)

    def add(self, table: pa.Table) -> None:
        """Append vectors that were computed before; `table` is of `embeddings_schema`."""
        with self._lock:
            self._write(table)
            self._fold()

    def close(self) -> None:
        """Remove the parts that were folded into others; nobody reads the ledger any more."""
        for part in self._folded:
            part.unlink(missing_ok=True)
        self._folded.clear()

    def _missing(self, hashes: Iterable[str]) -> list[str]:
        parts, asked = self.parts(), list(hashes)
        if not parts or not asked:
            return asked
        rows = self._con.execute(
            "SELECT chunk_hash FROM read_parquet($parts) WHERE chunk_hash IN (SELECT unnest($hashes))",
            {"parts": [str(part) for part in parts], "hashes": asked},
        )
        known = {chunk_hash for (chunk_hash,) in rows.fetchall()}
        return [chunk_hash for chunk_hash in asked if chunk_hash not in known]

    def _write(self, table: pa.Table, folded: Sequence[Path] = ()) -> None:
        aside = self.folder / "part.tmp"
        table = table.sort_by("chunk_hash").replace_schema_metadata({FOLDED: json.dumps([p.name for p in folded])})
        pq.write_table(table, aside, row_group_size=ROW_GROUP, compression="none", use_dictionary=False)
        publish_file(aside, self.folder / f"{table.num_rows:06d}-{sha256(aside)}.parquet")

    def _fold(self) -> None:
        for least, most in itertools.pairwise(SIZES):
            group = {part: rows for part in self.parts() if least <= (rows := int(part.name.partition("-")[0])) < most}
            if len(group) >= FOLD or sum(group.values()) >= most:
                self._write(pa.concat_tables([pq.read_table(part) for part in group]), list(group))
                self._folded |= set(group)


def embeddings(hashes: Sequence[str], vectors: np.ndarray) -> pa.Table:
    """float32[n, dim] `vectors` and their keys as a table of `embeddings_schema`."""
    dim = vectors.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), type=pa.float32()), dim)
    return pa.Table.from_arrays([pa.array(hashes, type=pa.string()), column], schema=embeddings_schema(dim))


def damaged_parts(folder: Path) -> list[Path]:
    """Parts of a model's ledger whose content is not what their name says."""
    return [part for part in sorted(folder.glob("*.parquet")) if sha256(part) != part.stem.rpartition("-")[2]]

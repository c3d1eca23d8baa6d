"""Embed the chunks of a batch whose text the ledger does not hold yet.

In: CHUNKS. Out: a ledger part, one row a new text: unit-norm float32[dim]. What is known is never embedded again.
A ledger has one writer, the process that ingests, and embedding may be spread over many: there `Embedding` notes which
texts of a batch nobody has embedded or is embedding, anywhere `embed_batch` embeds them, and there `Embedding` puts the
vectors into the ledger. A run that is killed leaves the vectors staged, and the next one takes them up.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.records import TEXTS, BatchRef
from schemas.settings import Settings
from tasks.chunk import embedded_text
from tasks.models import load_encoder
from tasks.shared import must_see
from tasks.store.ledger import PART_ROWS, Ledger, embeddings
from tasks.timing import timed

# Key of a file of vectors' metadata: the model that made them.
MODEL = b"model"

# A file in a run's folder that lets its embedding end, on whichever machine, after the part that it is at.
STOP = "stop"

# one batch at a time in a process: its threads are the encoder's, which is loaded once, and no tokenizer is used by two
_encoding = threading.Lock()


@functools.lru_cache(maxsize=4)
def open_ledger(store: Path, fingerprint: str) -> Ledger:
    """The one view of a model's ledger of the process that ingests."""
    return Ledger(store, fingerprint)


class Embedding:
    """What a run embeds, each text once, whichever of its batches have it; in the process that ingests."""

    def __init__(self, ledger: Ledger, folder: Path, model: str) -> None:
        """Notes what to embed in `folder`, the run's, for the model of fingerprint `model`."""
        self._ledger, self._folder, self._model = ledger, folder, model
        self._under_way: set[str] = set()
        self._numbers = itertools.count()

    def note(self, batch: BatchRef) -> BatchRef:
        """Write down the batch's texts that are in no ledger and not under way; the others count as reused."""
        rows: Sequence[dict[str, str]] = pq.read_table(
            batch.part("chunks"), columns=["chunk_hash", "title", "headings", "text"]
        ).to_pylist()
        texts = {row["chunk_hash"]: embedded_text(row["title"], row["headings"], row["text"]) for row in rows}
        missing = self._ledger.missing(key for key in texts if key not in self._under_way)
        self._under_way.update(missing)
        path = self._folder / f"{next(self._numbers):06d}.texts.parquet"
        pq.write_table(pa.table([missing, [texts[key] for key in missing]], schema=TEXTS), path)
        return replace(batch, texts=path, reused=len(rows) - len(missing))

    def keep(self, batch: BatchRef) -> BatchRef:
        """Put an embedded batch's vectors into the ledger."""
        assert batch.texts is not None
        if batch.vectors:
            table = pa.concat_tables([pq.read_table(path) for path in batch.vectors])
            self._ledger.add(table)
            self._under_way.difference_update(table["chunk_hash"].to_pylist())
        for path in (batch.texts, *batch.vectors):
            path.unlink()
        return replace(batch, texts=None, vectors=())

    def take_up(self) -> None:
        """Put what earlier runs left behind, whole and of this model, into the ledger."""
        for path in sorted(self._folder.parent.glob("*/*.vectors.parquet")):
            try:
                table = pq.read_table(path)
            except (OSError, pa.ArrowException):  # power was cut before the disk had it
                continue
            if (table.schema.metadata or {}).get(MODEL) == self._model.encode():
                # a run that was killed just after it had added them has them there already
                missing = self._ledger.missing(table["chunk_hash"].to_pylist())
                if missing:
                    self._ledger.add(table.filter(pc.is_in(table["chunk_hash"], pa.array(missing))))
            path.unlink()

    def stop(self) -> None:
        """Let `embed_batch` end soon wherever it is at work."""
        with contextlib.suppress(FileNotFoundError):  # nothing has begun, or all has ended
            (self._folder / STOP).touch()


@timed("embed")
def embed_batch(batch: BatchRef, settings: Settings) -> BatchRef:
    """Embed what is noted for a batch, into files of PART_ROWS vectors: as much as a crash may cost.

    Raises NotShared, ModelNotFound, ModelMismatch, and CancelledError after `Embedding.stop`.
    """
    assert batch.texts is not None
    must_see(batch.texts.parent)
    texts = pq.read_table(batch.texts).to_pylist()
    vectors = []
    for start in range(0, len(texts), PART_ROWS):
        part = texts[start : start + PART_ROWS]
        with _encoding:
            if batch.texts.with_name(STOP).exists():
                raise CancelledError
            encoder = load_encoder(settings)
            rows = encoder.encode([row["text"] for row in part])
        table = embeddings([row["chunk_hash"] for row in part], rows)
        path = batch.texts.with_name(f"{batch.texts.name.partition('.')[0]}-{start:06d}.vectors.parquet")
        aside = path.with_suffix(".tmp")
        pq.write_table(table.replace_schema_metadata({MODEL: encoder.fingerprint}), aside)
        aside.replace(path)
        vectors.append(path)
    return replace(batch, embedded=len(texts), vectors=tuple(vectors))

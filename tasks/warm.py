"""Have the reranker read a store's passages before anybody asks: the first queries are then as fast as later ones.

In: the newest generation. Out: the passages in the cache (tasks.models.late_interaction), as long as they fit; what was
read before is not read again, so a run costs what changed since the last, and one that is stopped goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from schemas.errors import ModelMismatch
from schemas.records import Filter
from schemas.settings import Settings
from tasks.models.kept import LEFT
from tasks.models.late_interaction import LateInteraction
from tasks.passages import passages
from tasks.rerank import load_cascade
from tasks.store.filters import matching_chunks
from tasks.store.reader import ChunkRef, Reader

# Passages between two reports of progress.
BATCH = 64


@dataclass(frozen=True)
class Warmed:
    """What a run did."""

    passages: int  # of the store
    read: int
    known: int  # were kept already
    bytes: int  # of both together

    @property
    def left(self) -> int:
        """Passages for which rerank_cache_mb has no room."""
        return self.passages - self.read - self.known

    @property
    def needed_mb(self) -> int:
        """What rerank_cache_mb would have to be for all of them."""
        done = self.read + self.known
        return math.ceil(self.passages * self.bytes / done / LEFT / 2**20) if done else 0


def warm(settings: Settings, report: Callable[[int, int], None]) -> Warmed:
    """Read what is not kept yet; `report` is called with passages done and in all.

    Raises ModelMismatch where no reranker of the settings keeps passages, and StoreNotFound, StoreFormat, CorruptStore,
    ModelNotFound.
    """
    rerankers = [stage.reranker for stage in load_cascade(settings)]
    keeping = next((reranker for reranker in rerankers if isinstance(reranker, LateInteraction)), None)
    if keeping is None:
        raise ModelMismatch(
            f"{settings.reranker} keeps nothing of a passage that a later query could use, so none is read ahead; "
            "headrace-reranker does, and what `headrace train-reranker` makes of it"
        )
    room = settings.rerank_cache_mb * 2**20 * LEFT
    read = known = size = 0
    with Reader.open(settings.store) as reader:
        rows = matching_chunks(reader, Filter()).rows.to_pylist()
        for start in range(0, len(rows), BATCH):
            if size >= room:
                break
            texts = passages(reader, [ChunkRef(**row) for row in rows[start : start + BATCH]], settings)
            before = sum(map(keeping.known, texts))
            size += sum(passage.nbytes for passage in keeping.read(texts))
            known, read = known + before, read + len(texts) - before
            report(known + read, len(rows))
    return Warmed(len(rows), read, known, size)

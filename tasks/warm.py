"""Have the reranker read a store's passages before anybody asks: the first queries are then as fast as later ones.

In: the newest generation. Out: the passages in the cache (tasks.models.late_interaction), as long as they fit; what was
read before is not read again, so a run costs what changed since the last, and one that is stopped goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import StoreNotWritable
from schemas.records import Filter
from schemas.reranking import kind_of, stage_names
from schemas.settings import Settings
from tasks.models.kept import LEFT, taken
from tasks.models.late_interaction import CHECKSUM, LateInteraction
from tasks.models.onnx_reranker import reranker_folder, reranker_kind
from tasks.passages import passages
from tasks.rerank import FUSION, load_reranker
from tasks.store.filters import matching_chunks
from tasks.store.reader import ChunkRef, Reader

# Passages between two reports of progress, and two looks at the room that is left.
BATCH = 16


@dataclass(frozen=True)
class Warmed:
    """What a run did."""

    passages: int  # looked at
    read: int
    known: int  # were kept already, or have the text of another
    bytes: int  # of both together, on the disk

    @property
    def left(self) -> int:
        """Passages for which rerank_cache_mb has no room."""
        return self.passages - self.read - self.known

    @property
    def needed_mb(self) -> int:
        """What rerank_cache_mb would have to be for all of them; 0 where none was read to tell it by."""
        done = self.read + self.known
        return math.ceil(self.passages * self.bytes / done / LEFT / 2**20) if done else 0


def warm(settings: Settings, report: Callable[[int, int], None], *, but: frozenset[str] = frozenset()) -> Warmed | None:
    """Read what is not kept yet; `report` is called with passages done and in all.

    Without the segments `but`. None where no reranker of the settings keeps passages. Raises StoreNotFound,
    StoreFormat, CorruptStore, ModelNotFound, ModelMismatch, and StoreNotWritable where the cache cannot be written.
    """
    reranker = _keeping(settings)
    if reranker is None:
        return None
    room = settings.rerank_cache_mb * 2**20 * LEFT
    read = known = size = 0
    with Reader.open(settings.store) as reader:
        new = [number for number, segment in enumerate(reader.generation.segments) if segment.name not in but]
        rows = matching_chunks(reader, Filter()).rows
        rows = rows.filter(pc.is_in(rows["segment"], pa.array(new, pa.int32())))
        for start in range(0, len(rows), BATCH):
            if size >= room:
                break
            refs = [ChunkRef(**row) for row in rows.slice(start, BATCH).to_pylist()]
            texts = passages(reader, refs, settings)
            found = {text: reranker.kept(text) for text in texts}
            unread = [text for text, passage in found.items() if passage is None]
            found |= zip(unread, reranker.read(unread), strict=True)
            size += sum(taken(passage.nbytes + CHECKSUM) for passage in found.values() if passage is not None)
            if unread and not reranker.known(unread[-1]):
                raise StoreNotWritable(f"{settings.cache} cannot be written, or its disk is full: no passage is kept")
            read, known = read + len(unread), known + len(texts) - len(unread)
            report(known + read, len(rows))
    return Warmed(len(rows), read, known, size)


def _keeping(settings: Settings) -> LateInteraction | None:
    """The first reranker of the settings that keeps passages; no other is loaded."""
    for named in stage_names(settings.reranker):
        if named.name == FUSION or kind_of(named.name) is not None:
            continue
        if reranker_kind(reranker_folder(named.name, settings)) == "late-interaction":
            found = load_reranker(settings.model_copy(update={"reranker": named.name}))
            assert isinstance(found, LateInteraction)
            return found
    return None

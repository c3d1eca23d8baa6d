"""How fast a reranker is on this machine: measured when it is first needed, refined by every run under a deadline.

    <cache>/rerank-speed.json    processor and reranker → milliseconds for 1,000 characters of query and passage

Characters, because any reranker's time grows with them, and none has to say how it counts.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from tasks.blend import Blend
from tasks.models.hardware import processor

logger = logging.getLogger(__name__)

# A run's part in what is remembered: some ten runs to forget a busy hour.
WEIGHT = 0.2
# A passage that is kept takes as long as so many characters that are read, and one more for so many of the query.
COMPARED = 25
COMPARES = 16
# What is kept is written again when it is off by this share.
DRIFT = 0.1


class Reranker(Hashable, Protocol):
    """Scores texts by their relevance to a query."""

    name: str
    fingerprint: str  # all that its speed depends on beside the machine
    blend: Blend  # what the final order takes beside its scores

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A reranker that remembers what it read of a passage."""

    def known(self, text: str) -> bool:
        """Whether a passage was read before, and is kept."""
        ...


class Speed:
    """What `reranker` takes on this machine, in milliseconds."""

    def __init__(self, reranker: Reranker, cache: Path) -> None:
        self._file = cache / "rerank-speed.json"
        self._reranker = reranker
        self._keeping = reranker if isinstance(reranker, Keeping) else None
        self._key = f"{processor()}, {reranker.fingerprint}"
        kept = _read(self._file).get(self._key)
        self._kept = self.rate = kept if kept is not None else self._measured()
        if kept is None:
            self._write()

    def works(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float64[n]: of each text, thousands of characters that the reranker has to read before it can score it."""
        if not self._keeping:
            return np.array([max(len(query), 1) + len(text) for text in texts]) / 1000
        unread = [0 if self._keeping.known(text) else len(text) for text in texts]
        return np.array(unread) / 1000 + self.compared(query)

    def compared(self, query: str) -> float:
        """The part of a text's work that is left once it was read, in the same unit."""
        return (COMPARED + len(query) / COMPARES) / 1000 if self._keeping else 0.0

    def learn(self, rate: float) -> None:
        """Refine by what a run took for 1,000 characters."""
        self.rate += WEIGHT * (rate - self.rate)
        if abs(self.rate - self._kept) > DRIFT * self._kept:
            self._kept = self.rate
            self._write()

    def _measured(self) -> float:
        """The rate of eight passages of 900 characters, once two others have made room for them."""
        said = " A headrace carries water to the mill wheel." * 20
        texts = [f"{time.time_ns()} {number}{said}" for number in range(10)]  # that nobody has read before
        query = "how fast is this?"
        self._reranker.score(query, texts[:2])
        work, started = self.works(query, texts[2:]).sum(), time.perf_counter()
        self._reranker.score(query, texts[2:])
        return float((time.perf_counter() - started) * 1000 / work)

    def _write(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # whole or absent for other processes, but not waiting for the disk: a query under a deadline would
            aside = self._file.with_name(f"{self._file.name}.{os.getpid()}.tmp")
            aside.write_text(json.dumps({**_read(self._file), self._key: round(self.rate, 4)}, indent=1))
            aside.replace(self._file)
        except OSError as error:  # a cache that may only be read: the next process measures again
            logger.info("speed not kept: %s", error)


def _read(file: Path) -> dict[str, float]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged: measured again
        return {}
    return kept if isinstance(kept, dict) else {}

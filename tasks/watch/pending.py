"""What has changed and is not published yet, and when it is due: a pure state machine, told the time.

In: a change of a path, at a time. Out: batches of paths.
A path rests once nothing happened to it for `quiet` seconds. A batch is due once something rests and for as long
nothing new was touched, so that `git checkout` of 3,000 files is one batch; or once something waits for `longest`
seconds. What changes again and again is given out by then too, unless it is being written: a file that grows is left
until it rests, and keeps nobody else waiting, since only a path's first change counts as new.

Invariants: each change is given out in a batch that is taken after it; a path at rest waits for `longest` seconds since
its first change at most; no more than `most` paths are kept, however many events come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """Paths that changed, at or below which something is to be looked at."""

    paths: frozenset[str]
    since: float  # when the first of them changed, seconds of the caller's clock


@dataclass
class _Changed:
    """A path's changes since it was last given out."""

    first: float
    last: float
    writing: bool  # the last thing seen was a write, not the end of one
    rest: float  # seconds without a change after which it rests


class Pending:
    """Changes that wait for their batch. Not safe across threads. Times are seconds of one clock, never falling."""

    def __init__(self, quiet: float, longest: float, *, most: int, coarser: Callable[[str], str]) -> None:
        """`coarser` gives a path that stands for a path and others, for when more than `most` would have to be kept."""
        self._quiet, self._longest, self._most, self._coarser = quiet, longest, most, coarser
        self._changed: dict[str, _Changed] = {}
        self._news = -math.inf  # when a path was last added

    def __len__(self) -> int:
        return len(self._changed)

    def changed(self, path: str, now: float, *, writing: bool = False, rest: float = 0.0) -> None:
        """Note that `path` changed; `writing` where more of the same is to be expected.

        Who looks only now and then whether it still changes gives a longer `rest` than `quiet`, in seconds.
        """
        known = self._changed.get(path)
        if known is None:
            self._news = now
            self._add(path, _Changed(now, now, writing, max(self._quiet, rest)))
        else:
            known.last, known.writing = now, writing

    def put_back(self, batch: Batch) -> None:
        """Take back a batch that could not be published; it rests already."""
        for path in batch.paths:
            known = self._changed.get(path)
            if known is None:
                self._add(path, _Changed(batch.since, batch.since, False, self._quiet))
            else:
                known.first = min(known.first, batch.since)

    def due(self) -> float:
        """When there is a batch to take, infinity where nothing is pending."""
        settled = self._news + self._quiet
        return min(
            (max(self._ready(c), min(settled, c.first + self._longest)) for c in self._changed.values()),
            default=math.inf,
        )

    def take(self, now: float) -> Batch:
        """What is ready now; what is not stays. At least one path where a batch is due."""
        ready = {path: c for path, c in self._changed.items() if self._ready(c) <= now}
        for path in ready:
            del self._changed[path]
        return Batch(frozenset(ready), min((c.first for c in ready.values()), default=now))

    def _ready(self, changed: _Changed) -> float:
        overdue = math.inf if changed.writing else changed.first + self._longest
        return min(changed.last + changed.rest, overdue)

    def _add(self, path: str, changed: _Changed) -> None:
        self._changed[path] = changed
        if len(self._changed) > self._most:
            fine, self._changed = self._changed, {}
            for each, c in fine.items():
                coarse = self._changed.setdefault(self._coarser(each), c)
                coarse.first, coarse.last = min(coarse.first, c.first), max(coarse.last, c.last)
                coarse.writing &= c.writing

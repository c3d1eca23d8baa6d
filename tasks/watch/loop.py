"""The loop of `headrace watch` and of the flow: observe sources, wait until changes are due, refresh, say so.

In: sources as `headrace ingest` takes them. Out: a store that follows them, until the loop is interrupted.
Every publish is a refresh of the paths that changed. The whole of a source is looked at when the watch starts, for what
happened while it was off; when the source comes back after it was away; when events were lost; and every
`rescan_hours`, for what no event tells of: remote sources, hard links, what other machines do behind a local mount.
However many events come, they wait as one bounded set of paths while a refresh runs.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from schemas.errors import HeadraceError, Regression, SourceUnreachable, StoreBusy, is_transient
from schemas.records import Published
from schemas.settings import Settings
from tasks.refresh import Refresher, Submit
from tasks.scan import Troubles
from tasks.store.generation import exists, read
from tasks.store.lookup import count_documents
from tasks.store.reader import Reader, newest
from tasks.watch.followed import FollowedSources
from tasks.watch.housekeeping import Housekeeping
from tasks.watch.pending import Batch, Pending

logger = logging.getLogger(__name__)

# A stream of changes that never ends is published this often, seconds.
LONGEST_S = 30.0

# Paths that are kept apart while they wait; from there on whole sources are looked at.
MOST_PATHS = 20_000

# Seconds between two looks whether the sources are still there.
HEALTH_S = 1.0

# Seconds until what failed is tried again, doubled each time.
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0


class Watch:
    """Follows sources: `run` does until it is interrupted or told to `stop`.

    `published` is told of what became searchable, `say` of what a person should know, in sentences.
    """

    def __init__(
        self,
        names: Sequence[str],
        settings: Settings,
        submit: Submit,
        published: Callable[[Published], None],
        say: Callable[[str], None],
    ) -> None:
        """Raises BadSource where a list of sources cannot be read."""
        self._settings, self._submit, self._published, self._tell = settings, submit, published, say
        self._sources = FollowedSources(names, settings, self._changed, say)
        self._pending = Pending(settings.debounce_s, LONGEST_S, most=MOST_PATHS, coarser=self._sources.root_of)
        self._lock, self._wake, self._ended = threading.Lock(), threading.Event(), False
        self._refused: Batch | None = None  # by the gate, to be tried again with what changes next
        self._retry_at, self._delay = -math.inf, FIRST_RETRY_S
        self._again: dict[str, tuple[float, float]] = {}  # sources to look at again: when, and after how long
        self._said: dict[str, str] = {}  # troubles that last, by source
        self._done_at = 0.0  # when the last publish was searchable
        self._parsed = (0, 0)

    def stop(self) -> None:
        """Let `run` return, after the refresh that is under way."""
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        """Watch; what is not published at the end, the next start finds.

        Raises BadSource where a source is missing that the store does not know, and what Refresher and its refresh
        raise that no retry can help: ModelNotFound, ModelMismatch, StoreNotWritable, CorruptStore, …
        """
        # compaction is for housekeeping: after a publish it would keep the next one waiting
        apart = self._settings.model_copy(update={"compact": "apart"})
        housekeeping = Housekeeping(self._settings)
        housekeeping.start()
        try:
            self._sources.open(self._documents_of)
            with Refresher(apart, self._submit, self._report) as self._refresher:
                self._refresher.warm_up()
                self._tell(self._sources.described())
                self._follow(housekeeping)
        finally:
            self._sources.close()
            housekeeping.stop()

    def _follow(self, housekeeping: Housekeeping) -> None:
        rescan_s = self._settings.rescan_hours * 3600
        rescan_at = _now() + rescan_s
        while not self._ended:
            self._sources.check()
            now = _now()
            if now >= rescan_at:
                rescan_at = now + rescan_s
                self._sources.look_at_all()
            for name, (at, delay) in self._again.items():
                if at <= now:
                    self._again[name] = math.inf, delay
                    self._changed(name)
            self._wake.clear()
            with self._lock:
                due = max(self._pending.due(), self._retry_at)
            if due > now:
                self._wake.wait(min(due - now, HEALTH_S))
            elif self._publish(now):
                housekeeping.published()

    def _documents_of(self, source: str) -> int:
        """How many the store has."""
        if not exists(self._settings.store):
            return 0
        with Reader.open(self._settings.store) as reader:
            return count_documents(reader, source)

    def _changed(self, path: str, *, writing: bool = False, rest: float = 0.0) -> None:
        with self._lock:
            if not len(self._pending):  # else the loop looks in time
                self._wake.set()
            self._pending.changed(path, _now(), writing=writing, rest=rest)

    def _publish(self, now: float) -> bool:
        """Refresh what is due; whether that published anything."""
        with self._lock:
            batch = self._pending.take(now)
        if self._refused is not None:
            batch = Batch(batch.paths | self._refused.paths, min(batch.since, self._refused.since))
        parts = self._sources.parts(batch.paths)
        if not parts:
            return False
        troubles: Troubles = []
        try:
            summary = self._refresher.refresh(parts, troubles)
        except Exception as error:
            self._failed(batch, error)
            return False
        self._refused, self._delay = None, FIRST_RETRY_S
        self._said.pop("", None)
        self._note({part.name for part in parts}, troubles)
        if summary.published:
            newest(self._settings.store)  # the next refresh finds its segments attached
            seconds = self._done_at - batch.since
            self._published(Published(summary, seconds, read(self._settings.store).quarantined))
        return bool(summary.published)

    def _failed(self, batch: Batch, error: Exception) -> None:
        """Keep what could not be published for another try. Raises what no other try can help."""
        if isinstance(error, Regression):
            self._refused = batch
            self._say("", str(error))
            return
        if not is_transient(error):
            raise error
        with self._lock:
            self._pending.put_back(batch)
        self._retry_at = _now() + self._delay
        self._delay = min(self._delay * 2, LAST_RETRY_S)
        waiting = "waiting for its end" if isinstance(error, StoreBusy) else "trying again"
        self._say("", f"{error}; {waiting}")

    def _note(self, looked_at: set[str], troubles: Troubles) -> None:
        """Say what is wrong with sources, and look again later at those that could not be listed."""
        wrong: dict[str, HeadraceError] = dict(troubles)
        for name in looked_at - wrong.keys():
            self._said.pop(name, None)
            self._again.pop(name, None)
        for name, error in wrong.items():
            self._say(name, str(error))
            if isinstance(error, SourceUnreachable):
                _, delay = self._again.get(name, (0.0, FIRST_RETRY_S / 2))
                delay = min(delay * 2, LAST_RETRY_S)
                self._again[name] = _now() + delay, delay

    def _say(self, about: str, text: str) -> None:
        """Tell what is wrong once, however long it lasts."""
        if self._said.get(about) != text:
            self._said[about] = text
            self._tell(text)

    def _report(self, stage: str, done: int, total: int) -> None:
        if stage == "parse":
            self._parsed = done, total
        elif stage == "publish":
            self._done_at = _now()
            parsed, of = self._parsed
            if parsed < of:
                self._tell(f"{parsed:,} of {of:,} documents are searchable so far")


def _now() -> float:
    return time.monotonic()

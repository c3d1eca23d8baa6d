"""The sources of a watch: opened, observed, missed when they go away and met again when they are back.

A local source is away while its folder is: an unmounted disk, a share that dropped. Its documents stay, its changes are
of no interest until it is back, and then all of it is looked at. A folder with another identity (device, inode) under
the same name is another one: it is observed anew.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.errors import BadSource
from schemas.settings import Settings
from tasks.sources import Source, each_of, local_path, open_source
from tasks.sources.found import within
from tasks.sources.local import LocalSource, identity, is_glob, root_of
from tasks.watch.mounts import network_file_system
from tasks.watch.observers import LIMITS, Observers, Place, value_of

logger = logging.getLogger(__name__)

# Seconds between two listings of what tells of no changes: longer than NFS keeps attributes, or a file that is being
# written there would look at rest.
POLL_S = 10.0


class Changes(Protocol):
    """Who is told of changes, from any thread."""

    def __call__(self, path: str, *, writing: bool = False, rest: float = 0.0) -> None:
        """See Pending.changed; the root of a source, or a remote one's name, stands for all of it."""
        ...


@dataclass
class _Followed:
    """One source."""

    name: str  # as the user gave it
    path: str | None  # absolute; None for a remote one
    source: Source | None = None  # None while it is away
    place: Place | None = None  # where it is observed
    poll_s: float | None = None


class FollowedSources:
    """Tells `changed` what may have changed in its sources, and `say` what a person should know."""

    def __init__(self, names: Sequence[str], settings: Settings, changed: Changes, say: Callable[[str], None]) -> None:
        """Raises BadSource where a list of sources cannot be read."""
        self._settings, self._changed, self._say = settings, changed, say
        self._all = [_Followed(name, local_path(name)) for name in each_of(names)]
        self._observers = Observers(self)
        # what threads of the observers report, for `check`
        self._gone, self._refused, self._lost = deque[Place](), deque[Place](), False

    def open(self, documents: Callable[[str], int]) -> None:
        """Open and observe all; each is to be looked at. `documents` counts those that the store has of a source.

        Raises BadSource for a source that is not there and of which the store has no document.
        """
        for followed in self._all:
            if followed.path is None:
                followed.source = open_source(followed.name, self._settings)
                self._changed(followed.source.name)
            elif not self._begin(followed):
                if not documents(followed.path):
                    raise BadSource(f"no folder, file or glob matches {followed.name}; check the path")
                self._say_away(followed)

    def check(self) -> None:
        """Look after sources that went away or came back, and after what observers reported."""
        refused = _drained(self._refused)
        for followed in self._all:
            if followed.place in refused:
                self._observers.forget(followed.place)
                self._poll_instead(followed, LIMITS[errno.ENOSPC])
        if self._lost:
            self._lost = False
            self._say(
                "more changes at once than the system keeps (fs.inotify.max_queued_events is "
                f"{value_of('fs.inotify.max_queued_events')}): looking at everything again"
            )
            self.look_at_all()
        gone = _drained(self._gone)
        for followed in self._all:
            if followed.path is None:
                continue
            if isinstance(followed.source, LocalSource):
                if followed.place not in gone and identity(followed.source.root) == followed.source.identity:
                    continue
                self._end(followed)
                if not self._begin(followed):
                    self._say_away(followed)
            elif self._begin(followed):
                self._say(f"{followed.path} is back")

    def look_at_all(self) -> None:
        """Have all of every source that is there looked at."""
        for followed in self._all:
            if followed.source is not None:
                self._changed(followed.source.name)

    def parts(self, paths: Collection[str]) -> list[Source]:
        """What changes at or below `paths` concern of the sources that are there."""
        parts = (f.source.changed(paths) for f in self._all if f.source is not None)
        return [part for part in parts if part is not None]

    def root_of(self, path: str) -> str:
        """A path that stands for all of the sources that `path` is in, and of others perhaps."""
        places = [f.place for f in self._all]
        roots = (place.folder for place in places if place is not None and within(path, place.folder))
        return min(roots, key=len, default=path)

    def described(self) -> str:
        """Which sources, and how they are observed, for people."""
        polled = [f for f in self._all if f.place is not None and f.place.poll_s is not None]
        remote = sum(f.path is None for f in self._all)
        names = ", ".join(f.name for f in self._all[:5]) + (" …" if len(self._all) > 5 else "")
        every = sorted({f"{f.place.poll_s:g}" for f in polled if f.place is not None})
        listed = f"; {len(polled)} listed every {', '.join(every)} s" if polled else ""
        hours = f"; {remote} remote, listed every {self._settings.rescan_hours:g} h" if remote else ""
        return f"watching {names}{listed}{hours}"

    def close(self) -> None:
        """Observe nothing any more."""
        self._observers.close()

    def on_change(self, path: str, *, writing: bool, rest: float) -> None:
        """See Listener."""
        self._changed(path, writing=writing, rest=rest)

    def on_gone(self, place: Place) -> None:
        """See Listener."""
        self._gone.append(place)

    def on_lost(self) -> None:
        """See Listener."""
        self._lost = True

    def on_refused(self, place: Place) -> None:
        """See Listener."""
        self._refused.append(place)

    def _begin(self, followed: _Followed) -> bool:
        """Open and observe a local source that is there, and have it looked at; whether it is there."""
        assert followed.path is not None
        if identity(root_of(followed.path)) is None:
            return False
        try:
            source = open_source(followed.name, self._settings)
        except BadSource:
            return False
        assert isinstance(source, LocalSource)
        followed.source = source
        followed.place = Place(
            source.root,
            recursive=source.is_folder or is_glob(source.name),
            skipped=source.store,
            hidden=is_glob(source.name),
            poll_s=self._interval(followed, source.root),
        )
        self._observe(followed)
        self._changed(source.name)
        return True

    def _interval(self, followed: _Followed, root: str) -> float | None:
        """Seconds between two listings; None where there are events."""
        if self._settings.poll_s is not None:
            return self._settings.poll_s
        kind = network_file_system(root)
        if kind is not None and followed.poll_s is None:
            followed.poll_s = POLL_S
            self._say(
                f"{followed.name} is on {kind}, which does not tell what others change: listing it every {POLL_S:g} s "
                "(poll_s sets another interval)"
            )
        return followed.poll_s

    def _observe(self, followed: _Followed) -> None:
        """Observe its place, or list it where the system gives no watch."""
        assert followed.place is not None
        try:
            self._observers.observe(followed.place)
        except OSError as error:
            if followed.place.poll_s is None and error.errno in LIMITS:
                self._poll_instead(followed, LIMITS[error.errno])
            else:
                logger.info("not observed, it may have gone place=%s error=%s", followed.place.folder, error)
                self.on_gone(followed.place)

    def _poll_instead(self, followed: _Followed, limit: str) -> None:
        """List what the system has no watches left for, and say how to get some."""
        assert followed.source is not None
        assert followed.place is not None
        followed.poll_s = POLL_S
        followed.place = replace(followed.place, poll_s=POLL_S)
        self._observe(followed)
        self._changed(followed.source.name)
        self._say(
            f"the system has no more watches for {followed.name} ({limit} is {value_of(limit)}): listing it every "
            f"{POLL_S:g} s. To follow its events, raise the limit and start again: sysctl -w {limit}=1048576"
        )

    def _end(self, followed: _Followed) -> None:
        if followed.place is not None:
            self._observers.forget(followed.place)
        followed.source = followed.place = None

    def _say_away(self, followed: _Followed) -> None:
        self._say(f"{followed.path} is not there: its documents stay searchable, and it is looked at when it is back")


def _drained(reports: deque[Place]) -> set[Place]:
    return {reports.popleft() for _ in range(len(reports))}

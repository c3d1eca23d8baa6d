"""A thin adapter over watchdog: who tells that a path changed, that a folder is gone, that events were lost.

Folders are observed by the kernel's events, or by comparing listings every `poll_s` seconds. Hidden folders and the
store are not observed, and events of their content never seen; of reading a file there are none.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserverVFS

from tasks.sources.found import hidden, within

logger = logging.getLogger(__name__)

# All that can change what a scan finds; of a folder neither its own mtime nor that a file in it was opened or read.
EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent, FileModifiedEvent, FileClosedEvent, FileAttribEvent, FileDeletedEvent, FileMovedEvent,
    DirCreatedEvent, DirAttribEvent, DirDeletedEvent, DirMovedEvent,
]  # fmt: skip

# A polled path rests when it looks the same once more; a listing may come late.
POLLS_OF_REST = 1.5

# The kernel settings to raise where the system gives no watch.
LIMITS = {errno.ENOSPC: "fs.inotify.max_user_watches", errno.EMFILE: "fs.inotify.max_user_instances"}


@dataclass(frozen=True)
class Place:
    """A folder to observe."""

    folder: str  # absolute, links kept
    recursive: bool
    skipped: str | None = None  # a folder in it that is not looked at: the store
    hidden: bool = False  # whether hidden files and folders are looked at
    poll_s: float | None = None  # seconds between two looks; None for events


class Listener(Protocol):
    """Who is told; from threads of the observers."""

    def on_change(self, path: str, *, writing: bool, rest: float) -> None:
        """Something is different at or below `path`; see Pending.changed."""
        ...

    def on_gone(self, place: Place) -> None:
        """The folder is gone, or another is in its place: it is not observed any more."""
        ...

    def on_lost(self) -> None:
        """Events were lost, of whatever place."""
        ...

    def on_refused(self, place: Place) -> None:
        """The system gives no watch for a folder in it: changes there are not told of."""
        ...


class Observers:
    """Observes places until it is closed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._events: BaseObserver | None = None
        self._polling: dict[Place, BaseObserver] = {}
        self._watches: dict[Place, ObservedWatch] = {}
        self._reals: dict[Place, str] = {}  # replaced, never changed: threads of the observer read it

    def observe(self, place: Place) -> None:
        """Begin to tell of `place`, which several sources may share.

        Raises OSError where it cannot be listed, or the system gives no watch.
        """
        if place in self._watches:
            return
        real = os.path.realpath(place.folder)  # inotify does not follow a link
        handler = _Handler(place, real, self._listener)
        if place.poll_s is not None:
            observer: BaseObserver = PollingObserverVFS(os.lstat, handler.listing, polling_interval=place.poll_s)
            observer.start()
            self._polling[place] = observer
        else:
            observer = self._events or self._start_events()
            self._events = observer
        self._reals = {**self._reals, place: real}
        try:
            self._watches[place] = observer.schedule(handler, real, recursive=place.recursive, event_filter=EVENTS)
        except BaseException:
            self.forget(place)
            raise

    def forget(self, place: Place) -> None:
        """Tell no more of `place`."""
        self._reals = {other: real for other, real in self._reals.items() if other != place}
        watch = self._watches.pop(place, None)
        if place in self._polling:
            _stop(self._polling.pop(place))
        elif watch is not None and self._events is not None:
            self._events.unschedule(watch)

    def close(self) -> None:
        """Stop observing."""
        for observer in (*self._polling.values(), *filter(None, [self._events])):
            _stop(observer)
        self._polling.clear()
        self._watches.clear()
        self._events = None

    def _start_events(self) -> BaseObserver:
        if sys.platform == "linux":
            observer = _inotify_observer(self._looking_at, self._listener)
        else:
            observer = Observer()
        observer.start()
        return observer

    def _looking_at(self, folder: str) -> list[Place]:
        """The places in which changes in `folder`, by its real path, matter."""
        return [
            place
            for place, real in self._reals.items()
            if within(folder, real) and _looked_at(place, os.path.relpath(folder, real))
        ]


class _Handler(FileSystemEventHandler):
    """Tells of the events below one place, by paths as the place is named."""

    def __init__(self, place: Place, real: str, listener: Listener) -> None:
        self._place, self._real, self._listener = place, real, listener

    def on_any_event(self, event: FileSystemEvent) -> None:
        rest = POLLS_OF_REST * (self._place.poll_s or 0.0)
        for path in filter(None, (os.fsdecode(event.src_path), os.fsdecode(event.dest_path))):
            if path == self._real and isinstance(event, DirDeletedEvent | DirMovedEvent):
                self._listener.on_gone(self._place)
            elif within(path, self._real):
                relative = os.path.relpath(path, self._real)
                if relative == ".":
                    self._listener.on_change(self._place.folder, writing=False, rest=rest)
                elif _told(self._place, relative):
                    named = os.path.join(self._place.folder, relative)  # noqa: PTH118
                    self._listener.on_change(named, writing=isinstance(event, FileModifiedEvent), rest=rest)

    def listing(self, folder: str | None) -> Iterator[os.DirEntry[str]]:
        """What polling looks at in a folder."""
        with os.scandir(folder) as entries:
            for entry in entries:
                relative = os.path.relpath(entry.path, self._real)
                if (
                    _looked_at(self._place, relative)
                    if entry.is_dir(follow_symlinks=False)
                    else _told(self._place, relative)
                ):
                    yield entry


def _looked_at(place: Place, relative: str) -> bool:
    """Whether changes in a folder below `place` matter."""
    if place.skipped is not None and within(os.path.join(place.folder, relative), place.skipped):  # noqa: PTH118
        return False
    return place.hidden or relative == "." or not hidden(relative)


def _told(place: Place, relative: str) -> bool:
    """Whether a change of a path below `place` matters: a hidden file's may, which is .gitignore or leads elsewhere."""
    return _looked_at(place, os.path.dirname(relative) or ".") and (  # noqa: PTH120
        place.skipped is None or os.path.join(place.folder, relative) != place.skipped  # noqa: PTH118
    )


def _inotify_observer(looking_at: Callable[[str], list[Place]], listener: Listener) -> BaseObserver:
    from watchdog.observers.inotify import InotifyEmitter
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchCallback, WatchDescriptor

    # of a folder that was renamed before its first watch was in place; it is right to overwrite it
    warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)

    class Descriptor(InotifyFD):
        """watchdog's, which says nothing of events that are lost and of folders below a root that it cannot watch."""

        def handle_event(self, event: InotifyEvent) -> None:
            super().handle_event(event)
            if event.is_queue_overflow:
                listener.on_lost()

        def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
            places = looking_at(os.fsdecode(path))
            if not places:
                raise FileNotFoundError(errno.ENOENT, "not looked at", path)  # as for one that has just gone
            try:
                return super().add_callback(path, mask, callback, id_)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    for place in places:
                        listener.on_refused(place)
                raise

    class InotifyObserver(BaseObserver):
        def __init__(self) -> None:
            self._descriptor = Descriptor()
            self._descriptor.start()
            super().__init__(InotifyEmitter, inotify_fd=self._descriptor)

        def on_thread_stop(self) -> None:
            super().on_thread_stop()
            self._descriptor.stop()
            self._descriptor.join()

    return InotifyObserver()


def _stop(observer: BaseObserver) -> None:
    observer.stop()
    observer.join()


def value_of(limit: str) -> str:
    """The value of a kernel setting such as fs.inotify.max_user_watches; empty where it cannot be read."""
    try:
        return Path("/proc/sys", *limit.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return ""

"""Whatever is done to a folder, by events or by polling: scanning the paths that were told of finds it."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import BadSource
from schemas.settings import Settings
from tasks.sources.local import LocalSource
from tasks.watch.observers import Observers, Place
from tests.watch.operations import Operation, done, operations
from tests.watch.test_changed_paths import after, contents, everything, planned

POLL_S = 0.05


class Told:
    """Notes what observers tell."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.paths: dict[str, bool] = {}  # path → whether it is being written
        self.gone: list[Place] = []
        self.refused: list[Place] = []
        self.lost = 0

    def on_change(self, path: str, *, writing: bool, rest: float) -> None:
        with self.lock:
            self.paths[path] = writing

    def on_gone(self, place: Place) -> None:
        self.gone.append(place)

    def on_lost(self) -> None:
        self.lost += 1

    def on_refused(self, place: Place) -> None:
        self.refused.append(place)

    def take(self) -> set[str]:
        with self.lock:
            paths, self.paths = set(self.paths), {}
        return paths


@contextmanager
def observed(folder: Path, **place: object) -> Iterator[Told]:
    told = Told()
    observers = Observers(told)
    observers.observe(Place(str(folder), **{"recursive": True, **place}))  # type: ignore[arg-type]
    try:
        yield told
    finally:
        observers.close()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; minutes are for machines that are busy."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(root: Path, told: Told, number: int) -> set[str]:
    """What was told, once a file that is made now has been told of: events keep their order."""
    last = root / f"last{number}.txt"
    last.write_text("x")
    seen: set[str] = set()

    def arrived() -> bool:
        seen.update(told.take())
        return str(last) in seen

    eventually(arrived)
    return seen


@pytest.mark.parametrize("poll_s", [None, POLL_S], ids=["events", "polling"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=st.lists(st.lists(operations, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_told_of_is_enough_to_follow_a_folder(poll_s: float | None, batches: list[list[Operation]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "docs"), Path(folder, "store")
        (root / "d" / "e").mkdir(parents=True)
        (root / "a.md").write_text("a")
        (root / "d" / "e" / "a.md").write_text("e")
        Path(folder, "o.md").write_text("outside")
        store.mkdir()
        configured = Settings(store=store)
        source = LocalSource(str(root), configured)
        with observed(root, poll_s=poll_s) as told:
            rows = after(planned(source, [], store), [])
            for number, batch in enumerate(batches):
                for operation in batch:
                    done(operation, root)
                for again in range(3):  # an unmatched rename is told of half a second late, and behind others
                    part = source.changed(settled(root, told, number * 10 + again))
                    try:
                        rows = after(planned(part, rows, store), rows) if part is not None else rows
                    except BadSource:
                        assert rows == []
                    if contents(rows) == everything(LocalSource(str(root), configured), store):
                        break
                    time.sleep(0.6)
                assert contents(rows) == everything(LocalSource(str(root), configured), store)


@pytest.mark.parametrize("poll_s", [None, POLL_S], ids=["events", "polling"])
def test_store_and_hidden_folders_are_not_told_of_but_gitignore_is(tmp_path: Path, poll_s: float | None) -> None:
    for folder in (".git", "index", "docs"):
        (tmp_path / folder).mkdir()
    with observed(tmp_path, skipped=str(tmp_path / "index"), poll_s=poll_s) as told:
        for _ in range(20):
            (tmp_path / ".git" / "HEAD").write_text("ref")
            (tmp_path / "index" / "CURRENT").write_text("1")
        (tmp_path / "index" / "segments").mkdir()
        (tmp_path / ".gitignore").write_text("x")
        assert {Path(path).name for path in settled(tmp_path, told, 0)} <= {".gitignore", "last0.txt"}
        (tmp_path / "docs" / ".gitignore").write_text("x")
        assert str(tmp_path / "docs" / ".gitignore") in settled(tmp_path, told, 1)


def test_reading_a_file_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    with observed(tmp_path) as told:
        (tmp_path / "a.md").read_text()
        list(tmp_path.iterdir())
        assert settled(tmp_path, told, 0) == {str(tmp_path / "last0.txt")}


def test_file_is_being_written_until_it_is_closed(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    with observed(tmp_path) as told:
        with page.open("w") as growing:
            growing.write("one")
            growing.flush()
            eventually(lambda: told.paths.get(str(page)))
        eventually(lambda: told.paths[str(page)] is False)


def test_folder_behind_a_link_is_told_of_by_the_name_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with observed(tmp_path / "link") as told:
        (tmp_path / "real" / "a.md").write_text("a")
        eventually(lambda: str(tmp_path / "link" / "a.md") in told.paths)


@pytest.mark.parametrize("poll_s", [None, POLL_S], ids=["events", "polling"])
def test_folder_that_is_removed_is_told_of_as_gone(tmp_path: Path, poll_s: float | None) -> None:
    (tmp_path / "docs").mkdir()
    with observed(tmp_path / "docs", poll_s=poll_s) as told:
        (tmp_path / "docs").rmdir()
        eventually(lambda: told.gone)


def test_events_that_the_kernel_lost_are_told_of(tmp_path: Path) -> None:
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

    (tmp_path / "d").mkdir()
    told = Told()
    observers = Observers(told)
    observers.observe(Place(str(tmp_path), recursive=True))
    try:
        assert observers._events is not None
        descriptor = observers._events._descriptor  # type: ignore[attr-defined]
        descriptor.handle_event(InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b""))  # type: ignore[arg-type]
        assert told.lost == 1
        (tmp_path / "d" / "a.md").write_text("a")  # and the folders are observed as before
        eventually(lambda: str(tmp_path / "d" / "a.md") in told.paths)
    finally:
        observers.close()


def test_folder_for_which_the_system_has_no_watch_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.observers import inotify_c

    add_watch = inotify_c.inotify_add_watch

    def refuse(descriptor: int, path: bytes, mask: int) -> int:
        if not path.endswith(b"/deep"):
            return add_watch(descriptor, path, mask)
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(inotify_c, "inotify_add_watch", refuse)
    with observed(tmp_path) as told:
        os.mkdir(tmp_path / "deep")  # noqa: PTH102
        eventually(lambda: told.refused == [Place(str(tmp_path), recursive=True)])

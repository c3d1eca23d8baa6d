"""Which generations are kept, and the way back to one of them.

A generation is kept while it is among the newest, or young, or read by somebody (who holds a shared lock on its
manifest). What no kept manifest names is removed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import filelock

from schemas.errors import CorruptStore
from tasks.store import generation as generations
from tasks.store.generation import Generation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removed:
    """What a garbage collection took away."""

    generations: tuple[int, ...]
    in_use: tuple[int, ...]  # expired, but somebody reads them
    files: int
    bytes: int


def collect(store: Path, *, keep: int, keep_hours: float) -> Removed:
    """Remove the generations that are neither among the newest `keep` nor younger than `keep_hours` nor in use.

    The caller holds the right to commit. Raises CorruptStore, removing nothing, where a manifest is damaged.
    """
    kept = list(generations.kept_generations(store))
    oldest = datetime.now(UTC) - timedelta(hours=keep_hours)
    expired = [g.number for g in kept[: -max(keep, 1)] if datetime.fromisoformat(g.created) < oldest]
    current = generations.current_number(store)
    removed: list[int] = []
    in_use: list[int] = []
    for number in expired:
        if number == current:
            continue
        with _unread(generations.manifest_path(store, number)) as unread:
            if unread:
                generations.manifest_path(store, number).unlink()
            (removed if unread else in_use).append(number)
    files, size = sweep(store)
    return Removed(tuple(removed), tuple(in_use), files, size)


def sweep(store: Path) -> tuple[int, int]:
    """Remove what no kept manifest names: expired segments and what a killed writer left. Returns files and bytes.

    The caller holds the right to commit, so that nobody is building but a compaction, which holds a lock of its own.
    """
    try:
        named = {segment.name for generation in generations.kept_generations(store) for segment in generation.segments}
    except CorruptStore as error:
        logger.warning("nothing swept, a damaged manifest may name it: %s", error)
        return 0, 0
    leftovers = [path for path in (store / "segments").iterdir() if path.name.partition(".")[0] not in named]
    leftovers += [*store.glob("*.tmp"), *(store / "manifests").glob("*.tmp"), *_in_folder(store / "building")]
    with try_lock(store / "compact.lock") as nobody_compacts:
        if nobody_compacts:
            leftovers += _in_folder(store / "compacting")
        size = sum(_remove(path) for path in leftovers)
    return len(leftovers), size


def rollback(store: Path, number: int) -> Generation:
    """Make a new generation that is generation `number` again. The caller holds the right to commit.

    Raises NoSuchGeneration, CorruptStore where `number` itself is damaged; the newest one may be.
    """
    old = generations.read(store, number)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    restored = replace(old, number=generations.numbers(store)[-1] + 1, event=f"rollback to {number}", created=now)
    generations.write(store, restored)
    return restored


@contextmanager
def _unread(manifest: Path) -> Iterator[bool]:
    """Whether nobody reads a generation; nobody can begin to within the block."""
    fd = os.open(manifest, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether nobody held the lock; it is held within the block then."""
    lock = filelock.FileLock(path, timeout=0)
    try:
        with lock:
            yield True
    except filelock.Timeout:
        yield False


def _in_folder(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> int:
    """Remove a file or a folder; return its bytes."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*"))
        shutil.rmtree(path)
        return size
    size = path.stat().st_size
    path.unlink()
    return size

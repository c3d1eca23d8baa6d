"""Worker processes that parse: untrusted files cost at most their own time, memory and process."""

from __future__ import annotations

import functools
import os
import stat
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pebble import ProcessExpired, ProcessPool

from schemas.errors import ParseFailed
from schemas.records import ParsedDocument
from schemas.settings import Settings
from tasks.parsing.worker import parse_in_worker, start_worker

# parsers leak: a worker is replaced after so many files
FILES_A_WORKER = 500

Outcome = ParsedDocument | ParseFailed


class _Scheduled(NamedTuple):
    """A file under way, and the pool that it was given to."""

    pool: ProcessPool
    future: Future[ParsedDocument]


class ParserPool:
    """Parses files in `settings.parse_workers` processes, started at the first file. Safe across threads.

    with ParserPool(settings) as pool:
        outcomes = pool.parse_many(paths)
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._closed = False
        self._unresolved: set[Future[ParsedDocument]] = set()
        self._pool: ProcessPool | None = None
        self._retired: list[ProcessPool] = []  # at their last files
        self._scratch = TemporaryDirectory(prefix="headrace-parsing-", ignore_cleanup_errors=True)
        # Workers die with the thread that spawned them (PR_SET_PDEATHSIG follows threads, not processes), and callers'
        # threads come and go: a thread of our own spawns them.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="parser-spawner")

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def parse_many(self, paths: Sequence[Path]) -> list[Outcome]:
        """What each of `paths` gave, in order. A worker that dies or hangs costs one file.

        Raises CancelledError where the pool is closed meanwhile: a file is not to blame for that. Raises
        BrokenProcessPool where workers do not even start.
        """
        scheduled = [_refused(path, self._settings) or self._schedule(path) for path in paths]
        return [
            file if isinstance(file, ParseFailed) else self._outcome(path, file)
            for path, file in zip(paths, scheduled, strict=True)
        ]

    def close(self) -> None:
        """Stop the workers at once."""
        with self._lock:
            self._closed = True
            pools = [*self._retired, self._pool]
            self._pool, self._retired = None, []
        # a stopped pool leaves the futures of running files unresolved, and whoever waits for them waiting
        for future in tuple(self._unresolved):
            future.cancel()
        for pool in filter(None, pools):
            pool.stop()
            pool.join(timeout=5)
        self._spawner.shutdown(wait=False)
        self._scratch.cleanup()

    def _schedule(self, path: Path) -> _Scheduled:
        with self._lock:
            pool = self._live_pool()
            future: Future[ParsedDocument] = pool.schedule(
                parse_in_worker, args=(path, self._settings.languages), timeout=self._settings.parse_timeout_s
            )
            self._unresolved.add(future)
        future.add_done_callback(self._unresolved.discard)
        return _Scheduled(pool, future)

    def _live_pool(self) -> ProcessPool:
        """The pool, started; another one where a worker that died between files has broken it, as pebble has it."""
        if self._closed:
            raise CancelledError("the parser pool is closed")
        if self._pool is not None and not self._pool.active:
            self._pool.stop()
            self._pool.join()
            self._pool = None
        if self._pool is None:
            self._pool = ProcessPool(
                max_workers=self._settings.parse_workers,
                max_tasks=FILES_A_WORKER,
                initializer=start_worker,
                initargs=(self._settings.parse_memory_mb, os.getpid(), self._scratch.name),
                context=get_context("spawn"),
            )
            # asking a new pool whether it is active starts it
            self._spawner.submit(getattr, self._pool, "active").result()
        return self._pool

    def _outcome(self, path: Path, file: _Scheduled) -> Outcome:
        outcome = self._attempt(path, file)
        if isinstance(outcome, ParseFailed) and outcome.kind == "memory":
            # perhaps for what earlier files have left in that worker, which can be given back only by its end
            self._retire(file.pool)
            outcome = self._attempt(path, self._schedule(path))
        return outcome

    def _retire(self, pool: ProcessPool) -> None:
        """Let `pool` end after what it was given, and another one take what comes."""
        with self._lock:
            current = self._pool
            if current is None or current is not pool:  # another file has asked for it
                return
            self._pool = None
            self._retired.append(current)
            current.close()
            threading.Thread(target=current.join, daemon=True).start()

    def _attempt(self, path: Path, file: _Scheduled) -> Outcome:
        try:
            try:
                return _result(file)
            except BrokenProcessPool:  # no fault of this file: nobody was parsing it
                return _result(self._schedule(path))
        except ParseFailed as error:
            return error
        except ProcessExpired as error:
            return ParseFailed("crashed", f"the parser's process died with exit code {error.exitcode}")
        except TimeoutError:
            return ParseFailed("timeout", f"parsing took more than {self._settings.parse_timeout_s:g} s")
        except MemoryError:
            return ParseFailed("memory", f"parsing needs more than {self._settings.parse_memory_mb} MiB")


def _result(file: _Scheduled) -> ParsedDocument:
    """What the worker gave. A pool that breaks forgets the files that it had not handed out: look, don't only wait."""
    while not wait([file.future], timeout=1.0).done:
        if not file.pool.active and not wait([file.future], timeout=1.0).done:
            raise BrokenProcessPool("the pool broke before the file was handed out")
    return file.future.result()


def _refused(path: Path, settings: Settings) -> ParseFailed | None:
    """Why `path` is not even opened, if so."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ParseFailed("vanished", "the file was deleted after it was listed")
    except OSError as error:
        return ParseFailed("unreadable", f"{type(error).__name__}: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return ParseFailed("unreadable", "it is not a regular file")
    size = status.st_size / 1024**2
    if size > settings.max_file_mb:
        return ParseFailed("too-large", f"{size:,.1f} MiB; the setting max_file_mb allows {settings.max_file_mb}")
    return None


# What a pool goes by.
PARSING = ("languages", "max_file_mb", "parse_memory_mb", "parse_timeout_s", "parse_workers")

_pools: dict[Settings, ParserPool] = {}
_pools_lock = threading.Lock()


def open_parsers(settings: Settings) -> ParserPool:
    """The process's parser pool for `settings`: those that differ in anything else share it."""
    settings = Settings.model_construct(**{name: getattr(settings, name) for name in PARSING})
    with _pools_lock:
        _close_at_exit()
        if settings not in _pools:
            _pools[settings] = ParserPool(settings)
        return _pools[settings]


@functools.cache
def _close_at_exit() -> None:
    """For a task runner's worker: it ends by waiting for its own processes, before atexit could stop them."""
    Finalize(None, close_parsers, exitpriority=1)


def close_parsers() -> None:
    """Stop every parser pool of the process."""
    with _pools_lock:
        while _pools:
            _pools.popitem()[1].close()

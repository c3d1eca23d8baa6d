"""Worker processes that parse: untrusted files cost at most their own time, memory and process."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from multiprocessing import get_context
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from schemas.errors import ParseFailed
from schemas.records import ParsedDocument
from schemas.settings import Settings

# parsers leak: a worker is replaced after so many files
FILES_A_WORKER = 500
PR_SET_PDEATHSIG = 1

Outcome = ParsedDocument | ParseFailed


class ParserPool:
    """Parses files in `settings.parse_workers` processes, started at the first file. Safe across threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._unresolved: set[Future[ParsedDocument]] = set()
        self._pool = ProcessPool(
            max_workers=settings.parse_workers,
            max_tasks=FILES_A_WORKER,
            initializer=_start_worker,
            initargs=(settings.parse_memory_mb,),
            context=get_context("spawn"),
        )

    def parse_many(self, paths: Sequence[Path]) -> list[Outcome]:
        """What each of `paths` gave, in order. A worker that dies or hangs costs one file.

        Raises CancelledError where the pool is closed meanwhile: a file is not to blame for that.
        """
        scheduled = [self._schedule(path) for path in paths]
        return [file if isinstance(file, ParseFailed) else self._outcome(file) for file in scheduled]

    def close(self) -> None:
        """Stop the workers at once."""
        # a stopped pool leaves the futures of running files unresolved, and whoever waits for them waiting
        for future in tuple(self._unresolved):
            future.cancel()
        self._pool.stop()
        self._pool.join(timeout=5)

    def _schedule(self, path: Path) -> Future[ParsedDocument] | ParseFailed:
        try:
            status = path.stat()
        except FileNotFoundError:
            return ParseFailed("vanished", "the file was deleted after it was listed")
        except OSError as error:
            return ParseFailed("unreadable", f"{type(error).__name__}: {error.strerror}")
        if not stat.S_ISREG(status.st_mode):
            return ParseFailed("unreadable", "it is not a regular file")
        if status.st_size > self._settings.max_file_mb * 1_000_000:
            return ParseFailed(
                "too-large",
                f"{status.st_size / 1e6:,.0f} MB; the setting max_file_mb allows {self._settings.max_file_mb}",
            )
        future: Future[ParsedDocument] = self._pool.schedule(
            _parse_in_worker, args=(path, self._settings.languages), timeout=self._settings.parse_timeout_s
        )
        self._unresolved.add(future)
        future.add_done_callback(self._unresolved.discard)
        return future

    def _outcome(self, future: Future[ParsedDocument]) -> Outcome:
        try:
            return future.result()
        except ParseFailed as error:
            return error
        except TimeoutError:
            return ParseFailed("timeout", f"parsing took more than {self._settings.parse_timeout_s:g} s")
        except MemoryError:
            return ParseFailed("memory", f"parsing needs more than {self._settings.parse_memory_mb} MiB")
        except ProcessExpired as error:
            return ParseFailed("crashed", f"the parser's process died with exit code {error.exitcode}")


def _parse_in_worker(path: Path, languages: str) -> ParsedDocument:
    from tasks.parsing.document import parse_file

    return parse_file(path, languages)


def _start_worker(memory_mb: int) -> None:
    """Make a fresh worker safe: it leaves interrupts to its parent, ends with it, stays offline and in its memory."""
    from tasks.parsing import offline

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # parsers and the programs that they start (pandoc) chatter; what matters comes back as an exception
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    offline.silence()
    offline.forbid_network()
    offline.use_blank_spacy_model()
    if sys.platform != "linux":
        return  # no /proc, and RLIMIT_AS is not enforced everywhere
    # on top of what imports have mapped already
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


_pools: dict[Settings, ParserPool] = {}
_pools_lock = threading.Lock()


def open_parsers(settings: Settings) -> ParserPool:
    """The process's parser pool for `settings`."""
    with _pools_lock:
        if settings not in _pools:
            _pools[settings] = ParserPool(settings)
        return _pools[settings]


def close_parsers() -> None:
    """Stop every parser pool of the process."""
    with _pools_lock:
        while _pools:
            _pools.popitem()[1].close()

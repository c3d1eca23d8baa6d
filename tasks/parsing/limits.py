"""The memory that a worker may take for its files, beside what it and the libraries take for themselves."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def limit_memory(megabytes: int) -> None:
    """Let this process, and programs that it starts, map so many MiB more; past that, MemoryError.

    On Linux only: elsewhere there is no /proc, and RLIMIT_AS is not enforced everywhere.
    """
    _set_limit(_mapped() + megabytes * 1024**2)


def release_memory() -> None:
    """Give back what earlier files have left, so that the limit is the next one's alone."""
    limit = _limit()
    if limit is not None and _mapped() > limit / 2:
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)


@contextmanager
def beyond_memory_limit() -> Iterator[None]:
    """What is mapped within is granted on top of the limit."""
    limit = _limit()
    if limit is None:
        yield
        return
    before = _mapped()
    _set_limit(None)
    try:
        yield
    finally:
        _set_limit(limit + _mapped() - before)


def _mapped() -> int:
    import resource

    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit() -> int | None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _set_limit(limit: int | None) -> None:
    import resource

    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        # the soft limit alone: the hard one, once lowered, could not make room for the next import
        soft = hard if limit is None else limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
